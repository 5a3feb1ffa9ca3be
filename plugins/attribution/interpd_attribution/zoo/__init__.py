"""Small models that this plugin brings; each is a folder that ``from_pretrained`` loads without a network."""
