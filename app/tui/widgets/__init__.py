"""What the screens are made of. A widget renders what it is given and says what was done to it."""
