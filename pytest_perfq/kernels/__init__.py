"""The native encoder: its C++ operations, how they are built and loaded, the plain-torch oracle they are held to, and the
encoder made of them. Importing this package imports no torch; its modules do."""
