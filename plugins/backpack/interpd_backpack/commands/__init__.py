"""``interpd backpack``: what the plugin does, from the command line."""
