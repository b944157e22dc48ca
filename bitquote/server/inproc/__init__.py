"""The engine of one process: a virtual clock and one thread at a time, so that a history is a function of its seed."""
