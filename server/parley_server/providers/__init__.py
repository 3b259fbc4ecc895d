"""Who and where: one calling card per provider, and the one driver that all share."""
