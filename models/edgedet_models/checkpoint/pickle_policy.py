"""What a pickle may ask to be constructed, and what is refused although nothing of it would be run.

Nothing named in a pickle is ever called here, so this policy is not what keeps the reader safe; it tells a
checkpoint (classes of a training repository, containers, dates, paths) from a file made to run something when
it is loaded in the ordinary way, which deserves an error rather than a silent pass. The rule:

- of the standard library, only the constructors listed in `INERT_STDLIB` may be called;
- of torch and numpy, classes and the functions that their own pickles use (``_rebuild_*`` and
  `INERT_FUNCTIONS`);
- of tools that exist to run or load things (`RUNNERS`), nothing;
- of anything else (``models.*``, ``yolov6.*``, ``__main__.*`` …), classes; a call of a function is refused.
"""

from __future__ import annotations

import sys

from edgedet_models.checkpoint.pickle_machine import Global, RefusedPickle
from edgedet_runtime.printable import shown

__all__ = ["check_call", "normalise"]

_RENAMED = {
    "__builtin__": "builtins",
    "copy_reg": "copyreg",
    "pathlib._local": "pathlib",
    "_datetime": "datetime",
}

INERT_STDLIB = frozenset(
    [
        "argparse.Namespace",
        *(
            f"builtins.{n}"
            for n in [
                "bool",
                "bytearray",
                "bytes",
                "complex",
                "dict",
                "float",
                "frozenset",
                "int",
                "list",
                "object",
            ]
        ),
        *(f"builtins.{n}" for n in ["range", "set", "slice", "str", "tuple", "getattr"]),
        "_codecs.encode",
        *(
            f"collections.{n}"
            for n in ["ChainMap", "Counter", "OrderedDict", "UserDict", "UserList", "defaultdict", "deque"]
        ),
        *(f"copyreg.{n}" for n in ["_reconstructor", "__newobj__", "__newobj_ex__"]),
        *(f"datetime.{n}" for n in ["date", "datetime", "time", "timedelta", "timezone"]),
        "decimal.Decimal",
        "fractions.Fraction",
        "functools.partial",
        "logging.getLogger",
        "operator.attrgetter",
        "operator.itemgetter",
        *(f"pathlib.{n}" for n in ["Path", "PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath", "WindowsPath"]),
        "random.Random",
        "re._compile",
        "time.struct_time",
        "types.SimpleNamespace",
        "uuid.UUID",
        "zoneinfo.ZoneInfo._unpickle",
    ]
)
"""Constructors of the standard library that training code leaves in checkpoints. ``getattr`` is what a bound
method pickles as (YOLOv6's deploy form); its result stays inert, and calling the result is refused."""

INERT_FUNCTIONS = frozenset(
    [
        "numpy.core.multiarray._reconstruct",
        "numpy.core.multiarray.scalar",
        "numpy.core.numeric._frombuffer",
        "numpy.dtype",
        "numpy.ndarray",
        "numpy.random._pickle.__bit_generator_ctor",
        "numpy.random._pickle.__generator_ctor",
        "numpy.random._pickle.__randomstate_ctor",
        "torch._utils._set_obj_state",
        "torch.device",
        "torch.dtype",
        "torch.memory_format",
        "torch.storage._load_from_bytes",
    ]
)

RUNNERS = frozenset(
    [
        *("IPython", "cffi", "cloudpickle", "dill", "execnet", "fabric", "invoke"),
        *("ipykernel", "joblib", "numexpr", "paramiko", "pexpect", "pip", "pkg_resources"),
        *("plumbum", "psutil", "ptyprocess", "setuptools", "sh"),
    ]
)

_GONE_STDLIB = frozenset(
    [
        *("UserDict", "asynchat", "asyncore", "cPickle", "cgi", "cgitb", "commands"),
        *("crypt", "distutils", "dummy_thread", "exceptions", "httplib", "imp", "imputil"),
        *("msilib", "nis", "nntplib", "os2", "ossaudiodev", "pipes", "popen2"),
        *("smtpd", "spwd", "telnetlib", "thread", "urllib2", "urlparse"),
    ]
)
"""Modules of Python 2 and 3 that newer Pythons no longer list."""


def normalise(target: Global) -> str:
    """Return the dotted path with the spellings of Python 2 and of private modules made one."""
    module = _RENAMED.get(target.module, target.module)
    if module.startswith("numpy._core"):
        module = "numpy.core" + module.removeprefix("numpy._core")
    return f"{module}.{target.name}"


def _is_stdlib(root: str) -> bool:
    return root in sys.stdlib_module_names or root in _GONE_STDLIB or root == "__builtin__"


def _is_class_name(name: str) -> bool:
    last = name.rpartition(".")[2].lstrip("_")
    return last[:1].isupper()


def check_call(target: Global, *, is_new: bool = False) -> None:
    """Refuse what does not belong into a checkpoint.

    Args:
        target: What the pickle wants to call.
        is_new: It is ``target.__new__`` that is wanted, which only classes have; then any name is a class's.

    Raises:
        RefusedPickle: With the name, for a message that continues "the checkpoint …".
    """
    path = normalise(target)
    root = path.partition(".")[0]
    if path in INERT_STDLIB or path in INERT_FUNCTIONS:
        return
    if _is_stdlib(root) or root in RUNNERS:
        raise RefusedPickle(f"wants to call {shown(target.path)}")
    if any(_is_stdlib(part) for part in target.name.split(".")[:-1]):
        raise RefusedPickle(f"wants to call {shown(target.path)}")  # a module reached through another's namespace
    if is_new or _is_class_name(target.name):
        return
    if (root, target.name.startswith("_rebuild")) == ("torch", True):
        return
    if (root, target.name.startswith("__pyx_unpickle_")) == ("numpy", True):
        return
    raise RefusedPickle(f"wants to call the function {shown(target.path)}")
