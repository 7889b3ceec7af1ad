"""Tasks: one file each, found by name through the registry. Files that start with an underscore are shared by them."""
