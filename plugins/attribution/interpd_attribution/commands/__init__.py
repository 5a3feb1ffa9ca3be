"""What this plugin adds to the command line ``interpd``. Nothing here needs torch, except ``--in-process``."""
