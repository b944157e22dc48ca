"""The engine of a Ray cluster: named actors as shards, fenced by leases that a keeper grants."""
