"""Who is named where: keys, parameters, lists of them; and what a rename or a drop does to all."""
