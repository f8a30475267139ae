"""How good a model is, alone or beside the one that it was made of."""
