"""The engine of one machine: a process a shard, shared memory for bulk, a local socket for control."""
