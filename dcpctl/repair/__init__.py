"""Floor 4: what a crash or a bad disk left behind, made into a checkpoint again; no printing.

`engine.repair` and `engine.salvage` are the ways in. Both survey the source (`survey`), say which
of its storage items are provably good, and hand a draft to the writer. Nothing is guessed: what
cannot be proved is left out or refused, and every remedy has been asked for.
"""
