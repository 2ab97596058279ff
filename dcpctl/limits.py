"""Every limit that hostile input meets, with its reason. Sizes are bytes unless said otherwise."""

from __future__ import annotations

#: Largest metadata pickle that is read. 1,000 tensors on 1,024 ranks take 0.2 GB.
METADATA_BYTES = 8 << 30
#: Most of anything in `.metadata` that need not be in proportion to its size.
REPEATED = 10_000
#: Least bytes that one chunk takes in `.metadata`; a real one takes 20 or more.
CHUNK_BYTES = 8
#: Most transforms of one storage item; torch's writers know one.
TRANSFORMS = 16
#: Largest bytes entry or tensor pickle that is decoded.
VALUE_BYTES = 64 << 20
#: Largest `data.pkl` of a tensor item; real ones are a few hundred bytes.
TENSOR_PICKLE_BYTES = 1 << 20
#: Longest single text or bytes object in a pickle.
PICKLE_OPERAND_BYTES = 48 << 20
#: Deepest nesting of containers in a pickle.
PICKLE_DEPTH = 200
#: Most values that a bytes entry may hold; `.metadata` is bounded by its own size.
VALUE_NODES = 2_000_000
#: Most containers among them: an empty dict takes 64 bytes, one with an item 232.
VALUE_CONTAINERS = 1_000_000
#: Largest integer in a pickle, in bytes of its two's complement.
PICKLE_INT_BYTES = 64
#: Most tensor dimensions; torch itself allows 64.
TENSOR_DIMS = 64
#: Largest JSON header of a safetensors file. The safetensors library takes 100 MB, which as Python
#: objects is more memory than a hostile input may have; 200,000 tensors take 25 MB.
SAFETENSORS_HEADER_BYTES = 32 << 20
#: Most commas and opening brackets in a JSON document. A tensor of a safetensors header has 8, and
#: 5 more if it is a DCP shard; a key of a contract has 7.
JSON_NODES = 1_500_000
#: Most steps that a TOML document may cost to read: five a value or bracket, and for a key four
#: and the square of its parts; 1 to 2 microseconds each.
TOML_STEPS = 2_000_000
#: Deepest nesting of a document, and most parts of a dotted key.
DOCUMENT_DEPTH = 64
#: Largest contract, receipt or baseline; a key takes 100 bytes.
DOCUMENT_BYTES = 64 << 20
#: Largest list of edits; a map of names has a file of its own.
EDITS_BYTES = 4 << 20
#: Largest policy.
POLICY_BYTES = 1 << 20
#: Largest map of names, and largest map of placements.
NAME_MAP_BYTES = 64 << 20
PLACEMENTS_BYTES = 4 << 20
#: Most globs that a map of placements may have; each is an expression that is compiled.
GLOBS = 10_000
#: Longest name that a rename makes; real ones have some hundred characters.
NAME_CHARACTERS = 1 << 16
#: Most names of a map that has a line for each, and most bytes of such a line.
NAMES = 500_000
NAME_LINE_BYTES = 1 << 16
#: Most records in the central directory of one storage item; torch writes 3 to 7 a tensor.
ZIP_RECORDS = 100_000
#: Largest central directory of one storage item.
ZIP_DIRECTORY_BYTES = 16 << 20
#: Largest tensor inside a bytes entry that is decoded to numbers.
SMALL_TENSOR_BYTES = 64 << 10
#: Largest decompressed size of one storage item held in memory.
DECOMPRESSED_BYTES = 8 << 30
#: Largest decompressed size of a bytes entry, of which no metadata says how large it should be.
DECOMPRESSED_VALUE_BYTES = 1 << 30
#: Findings of one checkpoint that `check` lists, where nothing else is said.
LISTED_FINDINGS = 200
#: Longest that a regular expression of the user may take on one name, in seconds of CPU time.
REGEX_SECONDS = 2
#: Longest line of a training log; a wandb row with a hundred columns takes 10 kB.
LOG_LINE_CHARACTERS = 1 << 20
#: Longest line that a trainer prints whose numbers are looked for; what follows is left out.
LOG_CONSOLE_CHARACTERS = 1 << 16
#: Most columns of a training log that are looked at; a MoE run of 64 layers writes some 2,000.
LOG_COLUMNS = 20_000
#: Most that is left out of lines that are too long, before what holds them is no log.
LOG_UNBROKEN_CHARACTERS = 1 << 30
#: Largest training log that is one JSON document and no stream of lines, in bytes.
LOG_DOCUMENT_BYTES = 256 << 20
#: Most values of it; `trainer_state.json` of 100,000 logged steps has 800,000.
LOG_DOCUMENT_VALUES = 2_500_000
#: Most files beside a save's shards that are carried over; a save has a few for each rank.
SIDE_FILES = 100_000
#: Deepest level of a directory tree in which saves are looked for. AReaL's lie seven deep.
TREE_DEPTH = 12
#: Most directories of it that are listed: some two seconds on a local disk.
TREE_DIRECTORIES = 50_000
#: Most directories that are listed to tell whether a checkpoint is a part of a save around it.
SAVE_DIRECTORIES = 1_000
#: Most checkpoints in one directory whose contents are compared to tell parts from saves.
COMPARED_PARTS = 64
