"""Other formats of fitted models, read at packing; the only place where unpickling may happen, when it is asked for."""
