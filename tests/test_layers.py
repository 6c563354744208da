"""The layering that the README describes: each module imports only from lower layers."""

import ast
import pathlib

# From low to high; a module may import from layers below its own, and from its own.
LAYERS = [
    ("dp3_jax.errors", "dp3_jax.files", "dp3_jax.allocator", "dp3_jax.losses", "dp3_jax.augmentation",
     "dp3_jax.masks", "dp3_jax.inpainting_losses", "dp3_jax.compilations",
     "dp3_jax.models", "dp3_jax.images", "dp3_jax.warping", "dp3_jax.training", "dp3_jax.evaluation",
     "dp3_jax.anonymization", "dp3_jax.video.names", "dp3_jax.video.sequences", "dp3_jax.video.stages",
     "dp3_jax.video.spans"),
    ("dp3_jax.assets", "dp3_jax.asset_sources", "dp3_jax.opencv", "dp3_jax.models.mesh",
     "dp3_jax.models.iris", "dp3_jax.models.age_sex", "dp3_jax.replacement",
     "dp3_jax.models.prior", "dp3_jax.models.prior_heads", "dp3_jax.data", "dp3_jax.flow", "dp3_jax.video",
     "dp3_jax.evaluation.metrics", "dp3_jax.evaluation.kid",
     "dp3_jax.evaluation.verification", "dp3_jax.evaluation.memorisation",
     "dp3_jax.evaluation.report", "dp3_jax.evaluation.dlib_judge", "dp3_jax.evaluation.people",
     "dp3_jax.evaluation.anonymity_report",
     "dp3_jax.evaluation.perceptual_distance", "dp3_jax.evaluation.head_pose",
     "dp3_jax.evaluation.context_attack", "dp3_jax.evaluation.identification",
     "dp3_jax.evaluation.video_metrics", "dp3_jax.evaluation.video_privacy",
     "dp3_jax.evaluation.video_report", "dp3_jax.evaluation.video_motion",
     "dp3_jax.training.state", "dp3_jax.training.sharding", "dp3_jax.training.processes",
     "dp3_jax.training.provenance",
     "dp3_jax.training.writer", "dp3_jax.training.interruption", "dp3_jax.anonymization.detection",
     "dp3_jax.anonymization.second_opinion",
     "dp3_jax.anonymization.plans", "dp3_jax.anonymization.generation",
     "dp3_jax.anonymization.frame_renderer",
     "dp3_jax.anonymization.sidecar", "dp3_jax.anonymization.boxes",
     "dp3_jax.anonymization.keeping", "dp3_jax.models.embedders",
     "dp3_jax.evaluation.deepface_judge", "dp3_jax.evaluation.deepface_worker",
     "dp3_jax.evaluation.face_measures",
     "dp3_jax.evaluation.identities_tables", "dp3_jax.evaluation.identities_targets",
     "dp3_jax.evaluation.identities_report", "dp3_jax.evaluation.real_people"),
    ("dp3_jax.training.steps", "dp3_jax.training.anonymizer_steps", "dp3_jax.training.temporal_steps",
     "dp3_jax.training.fusion_steps",
     "dp3_jax.training.checkpoint",
     "dp3_jax.training.options", "dp3_jax.training.objectives",
     "dp3_jax.training.configuration", "dp3_jax.training.feeding", "dp3_jax.export",
     "dp3_jax.anonymization.generator", "dp3_jax.replacement.classes", "dp3_jax.replacement.choice"),
    ("dp3_jax.training.loop", "dp3_jax.training.warm_start",
     "dp3_jax.evaluation.evaluate", "dp3_jax.evaluation.sample", "dp3_jax.evaluation.suites",
     "dp3_jax.evaluation.identities_suite", "dp3_jax.evaluation.identities_pictures",
     "dp3_jax.evaluation.replacers",
     "dp3_jax.evaluation.anonymity", "dp3_jax.evaluation.hiding", "dp3_jax.evaluation.composites",
     "dp3_jax.anonymization.anonymize", "dp3_jax.anonymization.preview",
     "dp3_jax.anonymization.reports", "dp3_jax.anonymization.batch",
     "dp3_jax.anonymization.transparency", "dp3_jax.anonymization.records",
     "dp3_jax.anonymization.workers", "dp3_jax.anonymization.running",
     "dp3_jax.anonymization.demo", "dp3_jax.video.coherence",
     "dp3_jax.video.following", "dp3_jax.video.memory", "dp3_jax.video.rendering",
     "dp3_jax.video.second_pass",
     "dp3_jax.video.job", "dp3_jax.video.one_pass", "dp3_jax.video.demo_clip",
     "dp3_jax.video.demo_person",
     "dp3_jax.evaluation.video_clip", "dp3_jax.evaluation.video_variants",
     "dp3_jax.evaluation.motion_attack",
     "dp3_jax.evaluation.video_targets",
     "dp3_jax.evaluation.evaluate_video", "dp3_jax.live"),
    ("dp3_jax.console", "dp3_jax.launching", "dp3_jax.launch_flags",
     "dp3_jax.anonymization.command", "dp3_jax.live.command",
     "dp3_jax.replacement.bank_command",
     "dp3_jax.evaluation.video_command", "dp3_jax.training.prior_heads", "dp3_jax.cli", "launch"),
]  # fmt: skip


def layer_of(module):
    """The layer of the longest listed name that `module` is or lies in."""
    best = None
    for index, names in enumerate(LAYERS):
        for name in names:
            if (module + ".").startswith(name + ".") and (best is None or len(name) > best[0]):
                best = (len(name), index)
    return None if best is None else best[1]


def modules(repository):
    for path in [*sorted((repository / "dp3_jax").rglob("*.py")), repository / "launch.py"]:
        parts = path.relative_to(repository).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__"), path


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_module_has_a_layer_and_imports_only_from_below(repository):
    wrong = []
    for module, path in modules(repository):
        if module == "dp3_jax":
            continue
        own = layer_of(module)
        if own is None:
            wrong.append(f"{module} has no layer")
            continue
        for name in imports(path):
            other = layer_of(name)
            if other is not None and other > own:
                wrong.append(f"{module} (layer {own}) imports {name} (layer {other})")
    assert wrong == []


def import_cycles(graph):
    """Groups of modules each of which imports all others of its group, directly or not."""

    def reached(start):
        found, ahead = set(), [start]
        while ahead:
            for name in graph[ahead.pop()] - found:
                found.add(name)
                ahead.append(name)
        return found

    from_each = {name: reached(name) for name in graph}
    own = {
        name: {other for other in names if name in from_each[other]}
        for name, names in from_each.items()
    }
    return sorted({tuple(sorted(group)) for group in own.values() if len(group) > 1})


def test_no_cycle_of_files_is_left_in_the_video_package(repository):
    paths = {name: path for name, path in modules(repository) if name.startswith("dp3_jax.video.")}
    graph = {name: set(imports(path)) & paths.keys() - {name} for name, path in paths.items()}
    assert import_cycles(graph) == []
    assert import_cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [("a", "b", "c")]


def test_no_file_is_too_long_to_read(repository):
    folders = [repository / name for name in ("dp3_jax", "configs", "tests", "benchmarks")]
    paths = [p for folder in folders for p in folder.rglob("*.py")]
    lengths = {str(p.relative_to(repository)): len(p.read_text().splitlines()) for p in paths}
    assert {name: n for name, n in lengths.items() if n > 400} == {}


def test_no_function_is_too_long_to_read(repository):
    """60 lines; the training loop itself and config files, which are lists, may have 150."""
    long = {}
    for folder in ("dp3_jax", "configs", "benchmarks"):
        for path in (repository / folder).rglob("*.py"):
            relative = path.relative_to(repository)
            limit = 150 if folder == "configs" or path.name == "loop.py" else 60
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    length = node.end_lineno - node.lineno + 1
                    if length > limit:
                        long[f"{relative}:{node.name}"] = length
    assert long == {}


def test_there_is_something_to_check(repository):
    assert len(list(modules(pathlib.Path(repository)))) > 20
