"""Block formats: layouts, grids, packing, and their reference in NumPy."""
