"""A plugin that ends whoever imports it."""

import sys

sys.exit("this plugin cannot be imported")
