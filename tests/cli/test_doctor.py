"""`perfq doctor`: every refusal once, where results and caches are, what other packages bring; nothing made or changed."""

import json
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from making import latency

from pytest_perfq.cli import kernels
from pytest_perfq.core.verdict import judge
from pytest_perfq.device import doctor
from pytest_perfq.store import Store

FP16 = "fp16 on a CPU is emulated: use fp32"
NO_GPU = "device cuda needs a GPU: use device cpu"
FACTS = {
    "machine": {"identity": {"cpu": "A CPU", "gpu": None, "memory_bytes": 16_000_000_000}, "stack": {}, "volatile": {}},
    "gpu": None,
    "threads": 2,
    "watched": {"cpu": ["steal", "load"], "untold": ["cpu: temperature"], "missing": []},
    "foreign": {"backend": [], "task": [], "metric": []},
    "backends": {
        "eager": {
            "cpu": {"fp32": [], "fp16": [FP16], "int8-dynamic": ["eager cannot do int8-dynamic: use ort"]},
            "cuda": {"fp32": [NO_GPU], "fp16": [NO_GPU], "int8-dynamic": [NO_GPU, "eager cannot do int8-dynamic: use ort"]},
        },
        "trace": {
            "cpu": {"fp32": [], "fp16": [FP16], "int8-dynamic": ["trace cannot do int8-dynamic: use ort"]},
            "cuda": {"fp32": [NO_GPU], "fp16": [NO_GPU], "int8-dynamic": [NO_GPU, "trace cannot do int8-dynamic: use ort"]},
        },
    },
}


@pytest.fixture
def known(monkeypatch, tmp_path):
    """A machine that is the same everywhere."""
    monkeypatch.setattr("pytest_perfq.device.doctor_facts", lambda: json.loads(json.dumps(FACTS)))
    monkeypatch.setenv("PERFQ_CACHE", str(tmp_path / "cache"))


def test_every_refusal_is_said_once_with_all_it_is_about(command, known):
    status, output, _ = command("doctor")
    assert status == 0
    lines = output.splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("backend "))
    assert [line.split() for line in lines[start + 2 : start + 6]] == [
        ["eager", "cpu", "fp32"],
        ["cuda", "nothing"],
        ["trace", "cpu", "fp32"],
        ["cuda", "nothing"],
    ]
    assert lines[start + 7 :] == [
        f"eager, trace on cpu with fp16: {FP16}",
        "eager, trace on cpu and cuda with int8-dynamic: it cannot do that: use ort",
        f"eager, trace on cuda with anything: {NO_GPU}",
    ]


def test_no_refusal_of_this_machine_is_lost(command, monkeypatch):
    """Each reason that a backend gives stands in the text, but for the names that stand before it."""
    monkeypatch.setenv("COLUMNS", "100000")
    output = command("doctor")[1]
    backends = json.loads(command("doctor", "--format", "json")[1])["backends"]
    cells = [
        (name, place, what, why)
        for name, at in backends.items()
        for place, by in at.items()
        for what, all in by.items()
        for why in all
    ]
    assert len(cells) > 20
    for name, place, what, reason in cells:
        words = reason.removeprefix(f"{name} ").replace(what, "that") if what.startswith(("int8-", "fp8-")) else reason
        (line,) = [one for one in output.splitlines() if one.endswith(words) and name in one.partition(" on ")[0].split(", ")]
        assert place in line and (what in line or "with anything: " in line)
    said = [line.partition(": ")[2] for line in output.splitlines() if " on c" in line.partition(": ")[0]]
    assert len(said) == len(set(said))


def test_the_machine_is_shown_with_units_and_nothing_is_blank(command, known):
    output = command("doctor")[1]
    assert "  memory                   16 GB\n" in output and "  cpu                      A CPU\n" in output
    assert output.count("  gpu                      none\n") == 2


def test_what_is_watched_beside_a_visit_is_named(command, known):
    output = command("doctor")[1]
    shown = (
        "  cpu                      steal, load\n  untold                   cpu: temperature\n  missing                  none\n"
    )
    assert f"watched beside each visit\n{shown}" in output


def test_the_store_is_named_with_its_runs_and_whether_it_can_be_written(command, known, tmp_path):
    assert "store                    .perfq/results.db: not there yet, a run of pytest can make it" in command("doctor")[1]
    assert not (tmp_path / ".perfq").exists() and not (tmp_path / "cache").exists()
    with Store.open(".perfq/results.db") as store:
        run = store.begin_run(["pytest"], {})
        store.record(run, "t.py::test[a]", latency().to_json(), judge(latency(), ()).to_json())
    assert ".perfq/results.db: 1 run, can be written to" in command("doctor")[1]
    (tmp_path / "torn.db").write_text(
        "no database, but a text that is longer than the header of one would be: 100 bytes or so, and more"
    )
    status, output, _ = command("doctor", "--store", "torn.db")
    assert status == 0 and "store                    torn.db is not a perfq store or is torn" in output


def flowing(output):
    """Without the line breaks, which a long path moves."""
    return " ".join(output.split())


def test_the_cache_is_named_with_its_size(command, known, tmp_path):
    assert f"{tmp_path / 'cache'}: not there yet, a run can make it" in flowing(command("doctor")[1])
    for name, size in (("a/x.onnx", 1_500_000), ("b/y.safetensors", 500_000)):
        (tmp_path / "cache" / name).parent.mkdir(parents=True)
        (tmp_path / "cache" / name).write_bytes(b"0" * size)
    assert f"{tmp_path / 'cache'}: 2 MB in 2 files, can be written to" in flowing(command("doctor")[1])
    (tmp_path / "file").write_text("")
    assert "file is not a folder; give another with --perf-cache" in command("doctor", "--cache", "file")[1]


def test_the_mirror_is_named_with_its_data_sets(command, known, tmp_path):
    assert "data                     no mirror given, so data sets come from the hub" in command("doctor")[1]
    for name in ("squad/train", "squad/validation", "glue-sst2/validation"):
        (tmp_path / "mirror" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mirror" / f"{name}.parquet").write_bytes(b"")
    status, output, _ = command("doctor", "--data", "mirror")
    assert status == 0 and "mirror: glue-sst2 (validation), squad (train, validation)" in output
    (tmp_path / "empty").mkdir()
    for name, sentence in (
        ("empty", "holds no <name>/<split>.parquet; give the folder that does"),
        ("nothing", "is not a folder;"),
    ):
        status, output, _ = command("doctor", "--data", name)
        # All else is shown; what cannot be used is a mistake none the less.
        assert status == 3 and f"{name} {sentence}" in output and "native kernels" in output
    status, output, _ = command("doctor", "--data", "nothing", "--format", "json")
    assert status == 3 and json.loads(output)["places"]["data"]["problem"].startswith("nothing is not a folder")


def test_json_has_the_same_facts(command, known, tmp_path):
    found = json.loads(command("doctor", "--format", "json")[1])
    places, native = found.pop("places"), found.pop("kernels")
    assert found == FACTS
    assert native["isas"][-1] == "portable" and native["built"] is False
    assert places["store"] == {"url": ".perfq/results.db", "exists": False, "runs": None, "problem": None}
    assert places["cache"] == {"folder": str(tmp_path / "cache"), "exists": False, "files": 0, "bytes": 0, "problem": None}
    assert places["data"] is None


def test_the_kernels_say_what_they_run_and_what_they_leave_unused(tmp_path):
    plain, none = frozenset({"avx2", "fma", "sse2"}), frozenset({"sse2"})
    wide, tiles = plain | {"avx512f", "avx512bw", "avx512dq", "avx512vl"}, {"amx_tile", "amx_int8", "amx_bf16"}
    assert kernels.facts(tmp_path, plain)["isas"] == ["avx2", "portable"]
    for flags, isas, unused in (
        (wide, ["avx2", "portable"], ["avx512f"]),
        (wide | {"avx512_vnni"}, ["avx512vnni", "avx2", "portable"], []),
        (wide | {"avx512_vnni", "avx_vnni", "amx_int8"}, ["avx512vnni", "avxvnni", "avx2", "portable"], ["amx_int8"]),
        (wide | {"avx512_vnni", "avx512_bf16"}, ["avx512bf16", "avx512vnni", "avx2", "portable"], []),
        (wide | {"avx512_vnni", "avx512_bf16"} | tiles, ["amx", "avx512bf16", "avx512vnni", "avx2", "portable"], []),
        (plain | {"avx_vnni"}, ["avxvnni", "avx2", "portable"], []),
    ):
        found = kernels.facts(tmp_path, flags)
        assert found["isas"] == isas and found["unused"] == unused
    here = {"problem": None, "compiler": "g++ 12", "library": "x"}
    lines = kernels.described(kernels.facts(tmp_path, none) | here)
    assert lines["instruction set"] == "portable: slow, since this CPU lacks avx2 and fma"
    lines = kernels.described(kernels.facts(tmp_path, frozenset({"avx2"})) | here)
    assert lines["instruction set"] == "portable: slow, since this CPU lacks fma"
    lines = kernels.described(kernels.facts(tmp_path, wide | {"avx512_vnni", "amx_int8"}) | here)
    assert lines["instruction set"] == "avx512vnni (and avx2, portable)"
    assert lines["other sets"] == (
        "amx: this CPU lacks amx_bf16, amx_tile, avx512_bf16; avx512bf16: this CPU lacks avx512_bf16; "
        "avxvnni: this CPU lacks avx_vnni"
    )
    assert lines["not used yet"] == "amx_int8, which this processor has"
    assert lines["precisions"] == "fp32; int8 as w8a8, w8a7 and w7a7; no bf16, which takes avx512_bf16"
    lines = kernels.described(kernels.facts(tmp_path, wide | {"avx512_vnni", "avx512_bf16"}) | here)
    assert lines["precisions"] == "fp32; int8 as w8a8, w8a7 and w7a7; bf16"
    assert lines["other sets"] == "amx: this CPU lacks amx_bf16, amx_int8, amx_tile; avxvnni: this CPU lacks avx_vnni"
    lines = kernels.described(kernels.facts(tmp_path, wide | {"avx512_vnni", "avx512_bf16", "avx_vnni"} | tiles) | here)
    assert lines["other sets"] == "none"


def test_the_kernels_say_what_was_left_out_by_choice(tmp_path, monkeypatch):
    alder_lake, here = frozenset({"avx2", "fma", "avx_vnni"}), {"problem": None, "compiler": "g++ 12", "library": "x"}
    genoa = alder_lake | {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16"}
    wide = (
        "amx: this CPU lacks amx_bf16, amx_int8, amx_tile, avx512_bf16, avx512_vnni, avx512bw, avx512dq, avx512f, avx512vl; "
        "avx512bf16: this CPU lacks avx512_bf16, avx512_vnni, avx512bw, avx512dq, avx512f, avx512vl; avx512vnni: this CPU lacks"
    )
    monkeypatch.setenv("PERFQ_KERNELS_ISAS", "portable")
    found = kernels.facts(tmp_path, alder_lake)
    assert found["isas"] == ["portable"] and found["left_out"] == ["avxvnni", "avx2"] and found["unused"] == []
    lines = kernels.described(found | here)
    assert (
        lines["instruction set"] == "portable: slow, since PERFQ_KERNELS_ISAS leaves avxvnni out"
        and "not used yet" not in lines
    )
    assert lines["other sets"].startswith(
        f"avxvnni: left out by PERFQ_KERNELS_ISAS; avx2: left out by PERFQ_KERNELS_ISAS; {wide}"
    )
    monkeypatch.setenv("PERFQ_KERNELS_ISAS", "avx2,avx512vnni")
    lines = kernels.described(kernels.facts(tmp_path, genoa) | here)
    assert lines["instruction set"] == "avx512vnni (and avx2, portable)"
    left_out = "avx512bf16: left out by PERFQ_KERNELS_ISAS; avxvnni: left out by PERFQ_KERNELS_ISAS"
    assert lines["other sets"] == f"{left_out}; amx: this CPU lacks amx_bf16, amx_int8, amx_tile"
    assert lines["precisions"].endswith("no bf16, which PERFQ_KERNELS_ISAS leaves out")
    monkeypatch.setenv("PERFQ_KERNELS_ISAS", "all")
    lines = kernels.described(kernels.facts(tmp_path, alder_lake) | here)
    assert lines["instruction set"] == "avxvnni (and avx2, portable)" and lines["other sets"].startswith(wide)
    monkeypatch.setenv("PERFQ_KERNELS_ISAS", "sse9")
    assert "names the instruction set 'sse9'" in kernels.facts(tmp_path)["problem"]


def test_the_command_that_builds_ahead_is_that_of_the_cache_in_use(command, known, tmp_path, monkeypatch):
    """What it names is what would be looked for: a library built there is found."""
    monkeypatch.setattr("pytest_perfq.kernels.cuda_toolkit.torch_cuda", lambda: None)
    for words, cache in (((), tmp_path / "cache"), (("--cache", "of mine"), "'of mine'")):
        text = flowing(command("doctor", *words)[1])
        assert f"not built yet: at first use, or ahead by `python -m pytest_perfq.kernels.build {cache}`" in text
        assert f"CUDA library not built yet: ahead by `python -m pytest_perfq.kernels.build_cuda {cache}`" in text
    found = kernels.facts(tmp_path / "cache")
    library = Path(found["library"])
    assert not found["built"] and library.parents[2] == tmp_path / "cache"
    library.parent.mkdir(parents=True)
    library.touch()
    assert kernels.facts(tmp_path / "cache")["built"] and not kernels.facts(tmp_path / "another")["built"]


def test_the_kernels_say_what_cuda_lacks_here(tmp_path, monkeypatch):
    monkeypatch.setattr("pytest_perfq.device.gpu.gpu_present", lambda: False)
    monkeypatch.setattr("pytest_perfq.kernels.cuda_toolkit.torch_cuda", lambda: None)
    monkeypatch.setattr("pytest_perfq.kernels.cuda_toolkit.DEFAULT_HOME", tmp_path)
    monkeypatch.setattr("shutil.which", lambda name, **where: None if name == "nvcc" else f"/usr/bin/{name}")
    monkeypatch.delenv("CUDA_HOME", raising=False)
    lines = kernels.described(kernels.facts(tmp_path))
    no_nvcc = (
        f"the native CUDA kernels need nvcc, which is neither on the path nor in {tmp_path}/bin, and CUDA_HOME is not set; "
        "install the CUDA toolkit or name its folder in CUDA_HOME"
    )
    assert lines["missing for CUDA"] == f"no GPU; this torch is a CPU build; {no_nvcc}" and lines["nvcc"] == "none"
    assert lines["devices"] == "cpu; the CUDA half compiles, and has not run on a GPU yet"
    assert lines["CUDA library"] == f"not built yet: ahead by `python -m pytest_perfq.kernels.build_cuda {tmp_path}`"


def test_without_a_compiler_the_kernels_say_so(command, known, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    status, output, _ = command("doctor")
    assert status == 0
    text = " ".join(output.split())
    assert "native kernels not here the native kernels need a C++20 compiler, and CXX names 'no-such-compiler'" in text
    assert json.loads(command("doctor", "--format", "json")[1])["kernels"]["built"] is False


def test_what_other_packages_bring_is_named_and_tried(monkeypatch):
    points = [
        EntryPoint("mine", "collections:OrderedDict", "perfq.backends"),
        EntryPoint("broken", "no_such_module:BACKEND", "perfq.backends"),
        EntryPoint("eager", "collections:OrderedDict", "perfq.backends"),
    ]
    monkeypatch.setattr(doctor, "entry_points", lambda group: [one for one in points if one.group == group])
    monkeypatch.setattr(doctor.registry, "load", lambda kind, name: {"mine": __import__("collections").OrderedDict}.get(name))
    found = {one["name"]: one for one in doctor.foreign("backend")}
    assert found["mine"] == {"name": "mine", "package": "unknown", "object": "collections:OrderedDict", "problem": None}
    assert found["broken"]["problem"] == "cannot be loaded: ModuleNotFoundError: No module named 'no_such_module'"
    assert found["eager"]["problem"] == "is hidden by another backend of this name: give it a name of its own"
    assert doctor.foreign("task") == []


def test_foreign_names_are_printed_with_their_package(command, known, monkeypatch):
    mine = {"name": "mine", "package": "my-perfq 1.2", "object": "my_perfq:BACKEND", "problem": None}
    other = {"name": "other", "package": "o 1", "object": "o:B", "problem": "cannot be loaded: ImportError: no o"}
    facts = {**FACTS, "foreign": {"backend": [mine, other], "task": [], "metric": []}}
    monkeypatch.setattr("pytest_perfq.device.doctor_facts", lambda: facts)
    lines = command("doctor")[1].splitlines()
    at = lines.index("from other packages, by entry points")
    assert [" ".join(line.split()) for line in lines[at + 1 : at + 5]] == [
        "backends mine (my-perfq 1.2, my_perfq:BACKEND)",
        "other (o 1, o:B) cannot be loaded: ImportError: no o",
        "tasks none",
        "metrics none",
    ]
