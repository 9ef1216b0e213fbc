"""A model on disk, sealed: packing and compiling, opening and verifying, loaders and importers."""
