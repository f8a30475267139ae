"""Pictures that messages name, as far as a terminal can show them.

A model may name any file. Whatever it names: nothing is asked of the network, nothing outside of the working
directory is opened, nothing but a regular file is read (``opening``), and no byte of it is decoded in this
process (``decoding``, ``process``). ``album`` keeps what was found, and has a thread for all of it.
"""
