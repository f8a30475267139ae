"""What the builds in this folder share. It is on the path of `make`'s commands and of the tests as `kit`."""
