"""Methods that take gradients of the target by the inputs."""
