"""The atlas: every way in which people freeze, against every other, for each optimizer and each family of networks."""
