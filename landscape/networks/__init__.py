"""What networks are made of: units, permutations, groups, ranks; and smaller networks of equal outputs."""
