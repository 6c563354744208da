"""What more devices cost: work, memory and collectives of the train steps, and where their time goes.

    python benchmarks/scaling.py weak --config=celeba128:quick --each=8  # 1, 2, 4, 8 devices, 2 processes
    python benchmarks/scaling.py compiled --config=celeba128 --each=32   # memory, FLOP, collectives
    python benchmarks/scaling.py compiled --config=fusion128 --each=16 --topology=v5e:2x4
    python benchmarks/scaling.py profile --config=fusion128 --each=16    # the step's operations by time

`weak` forces that many devices out of this machine's CPU. They share its cores, so seconds by the clock say
nothing; processor seconds for one image say what a device does beside the work that one device alone does:
with perfect scaling they stay the same. Collectives are read off the compiled step; bytes are of the arrays
that one device hands in, for each step.

`compiled` runs nothing. With `--topology` the step is compiled for TPUs that this machine does not have, by
libtpu (`pip install libtpu`, the version that `jax[tpu]` names), in bfloat16, as it would be there: memory
and operations are then what the compiler says of those chips.

`profile` traces steps with jax.profiler and reads the trace with jax.profiler.ProfileData.
"""

import argparse
import collections
import dataclasses
import importlib
import json
import math
import os
import pathlib
import re
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable, Iterator

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import jax
import numpy as np
from ml_collections import ConfigDict

from dp3_jax.training import assembly, configuration, sharding
from dp3_jax.training.state import GanState

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_BYTES = {"pred": 1, "u8": 1, "s8": 1, "bf16": 2, "f16": 2, "u32": 4, "s32": 4, "f32": 4, "f64": 8}
_COLLECTIVE = re.compile(rf"= (.*?) ({'|'.join(COLLECTIVES)})(-start)?\(")
_ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
_COMPUTATION = re.compile(r"(?:ENTRY )?%?([\w.-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?([\w.-]+) = ")


@dataclasses.dataclass(frozen=True)
class Peak:
    """What a chip can do at most.

    Attributes:
      flops: FLOP/s in bfloat16, without sparsity.
      memory: bytes/s of its memory.
      links: bytes/s that it can send to the others of its machine.
      capacity: bytes of memory.
    """

    flops: float
    memory: float
    links: float
    capacity: float


# cloud.google.com/tpu/docs/v5e; NVIDIA's H100 data sheet, SXM (its FLOP/s halved: they are with sparsity).
# Links are given for both directions together, and halved here.
PEAKS = {
    "v5e": Peak(197e12, 819e9, 200e9, 16e9),
    "H100": Peak(989e12, 3350e9, 450e9, 80e9),
}


def config_of(name: str, batch: int) -> ConfigDict:
    """The config FILE or FILE:VARIANT of configs/ with one micro-batch of `batch` images per update."""
    file, _, variant = name.partition(":")
    config = importlib.import_module(f"configs.{file}").get_config(variant)
    config.train.update(batch_size=batch, accumulation=1)
    return config


def companions_of(config: ConfigDict, batch: int) -> types.SimpleNamespace | None:
    """The shapes of what batches of that config hold besides their images; None for nothing."""
    if not config.data.get("donors"):
        return None
    size = config.data.image_size
    shapes = {
        "donor": ((batch, size, size, 3), np.uint8),
        "donor_oval": ((batch, 36, 2), np.float32),
    }
    return types.SimpleNamespace(shapes=shapes)


def collectives(text: str) -> dict[str, tuple[int, int]]:
    """How many collectives of each kind a compiled step has, and the bytes that one device hands in.

    Both of `lax.cond`'s branches are counted: of a config with R1 those of the updates that have it.

    Args:
      text: of the compiled module (HLO).
    """
    found: dict[str, tuple[int, int]] = {}
    for line in text.splitlines():
        match = _COLLECTIVE.search(line)
        if not match:
            continue
        shapes, kind, started = match.groups()
        size = sum(
            _BYTES.get(dtype, 4) * math.prod(int(n) for n in dims.split(",") if n)
            for dtype, dims in _ARRAY.findall(shapes)
        )
        if started and kind != "all-reduce":
            size //= 2  # such a start gives its operand beside its result
        count, total = found.get(kind, (0, 0))
        found[kind] = (count + 1, total + size)
    return found


def abstract_state(parts: assembly.Assembly, layout: sharding.Layout) -> GanState:
    """The shapes of a run's state on `layout`'s devices, which need not exist."""
    shapes = jax.eval_shape(lambda: assembly.build(parts, sharding.make_layout()))
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=layout.replicated), shapes
    )


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A compiled step and what it takes; `state` is a fresh one, or its shapes."""

    step: object
    state: GanState
    layout: sharding.Layout
    config: ConfigDict
    batch: int

    def figures(self) -> dict:
        """What the compiler says: FLOP, bytes and memory of one device, and the collectives."""
        cost, memory = self.step.cost_analysis(), self.step.memory_analysis()
        return {
            "devices": self.layout.mesh.size,
            "batch": self.batch,
            "flop": cost.get("flops", 0.0),
            "bytes": cost.get("bytes accessed", 0.0),
            "arguments": memory.argument_size_in_bytes,
            "temporary": memory.temp_size_in_bytes,
            "collectives": collectives(self.step.as_text()),
        }


def compiled(
    name: str, each: int, layout: sharding.Layout, build: Callable = assembly.build, **train: str
) -> Compiled:
    """The train step of a config of configs/ for `each` images on every device of `layout`.

    Args:
      name: FILE or FILE:VARIANT.
      each: images.
      layout: of the devices.
      build: what makes the state, `assembly.build` or `abstract_state`.
      train: values of the config's section of that name.
    """
    batch = each * layout.mesh.size
    config = config_of(name, batch)
    config.train.update(**train)
    parts = assembly.assemble(configuration.parse(config))
    state = build(parts, layout)
    images = (batch, config.data.image_size)
    companions = companions_of(config, batch)
    step = assembly.compile_step(parts.train_step, state, layout, images, companions)
    return Compiled(step, state, layout, config, batch)


def made_batch(made: Compiled) -> dict[str, jax.Array]:
    """A batch of random pixels and ovals: the work does not depend on them."""
    random = np.random.default_rng(jax.process_index())
    size = made.config.data.image_size
    shapes = {"image": ((made.batch, size, size, 3), np.uint8)}
    extra = companions_of(made.config, made.batch)
    batch = {}
    for name, (shape, dtype) in (shapes | (extra.shapes if extra else {})).items():
        own = (shape[0] // jax.process_count(), *shape[1:])
        batch[name] = made.layout.global_batch(random.integers(0, 127, own).astype(dtype))
    return batch


def cpu_seconds() -> float:
    """Processor seconds of this process so far, its threads' together."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def run_child(arguments: argparse.Namespace) -> None:
    """One process of a measurement: prints its figures and the processor seconds of a step as JSON."""
    if arguments.address:
        sharding.join(arguments.address, arguments.processes, arguments.process)
    made = compiled(arguments.config, arguments.each, sharding.make_layout())
    state, batch = made.state, made_batch(made)
    seconds = []
    for _ in range(arguments.steps + 1):  # the first one is thrown away
        began = cpu_seconds()
        state, metrics = made.step(state, batch)
        jax.block_until_ready((state, metrics))
        seconds.append(cpu_seconds() - began)
    loss = float(metrics["loss_d"])
    print(json.dumps({**made.figures(), "seconds": statistics.median(seconds[1:]), "loss": loss}))


def children(arguments: argparse.Namespace, devices: int, processes: int) -> list[dict]:
    """What each of `processes` processes with `devices` devices together says."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = f"--xla_force_host_platform_device_count={devices // processes}"
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    line = [sys.executable, __file__, "child", f"--config={arguments.config}"]
    line += [f"--each={arguments.each}", f"--steps={arguments.steps}", f"--processes={processes}"]
    started = [
        subprocess.Popen(
            [*line, f"--process={index}", *([f"--address={address}"] if processes > 1 else [])],
            env=env, stdout=subprocess.PIPE, text=True,
        )
        for index in range(processes)
    ]  # fmt: skip
    return [json.loads(child.communicate()[0].splitlines()[-1]) for child in started]


def shown(found: dict) -> str:
    """Collectives as text: kind, how many, megabytes."""
    parts = [f"{count} {kind}, {size / 1e6:.2f} MB" for kind, (count, size) in found.items()]
    return "; ".join(parts) or "none"


def weak(arguments: argparse.Namespace) -> None:
    """Prints the table of weak scaling."""
    print("| devices | processes | images a step | CPU s / image | of one device's | collectives |")
    print("|---|---|---|---|---|---|")
    first = None
    for devices, processes in (*((n, 1) for n in arguments.devices), (2, 2)):
        said = children(arguments, devices, processes)
        each = sum(one["seconds"] for one in said) / said[0]["batch"]
        first = first or each
        print(
            f"| {devices} | {processes} | {said[0]['batch']} | {each:.4f} | {each / first:.2f} | "
            f"{shown(said[0]['collectives'])} |",
            flush=True,
        )
    print(f"\nload average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def topology_layout(name: str) -> sharding.Layout:
    """The layout over the chips of a TPU slice that need not be there, such as v5e:2x4."""
    from jax.experimental import topologies

    devices = topologies.get_topology_desc(name, "tpu").devices
    mesh = jax.sharding.Mesh(np.array(sharding.in_order(devices)), (sharding.AXIS,))
    return sharding.Layout(mesh)


def roofline(figures: dict, peak: Peak) -> dict[str, float]:
    """Least seconds that each resource of a chip needs for a step: arithmetic, memory, links."""
    count = figures["devices"]
    sent = sum(size for _, size in figures["collectives"].values())
    # A ring all-reduce sends each byte 2 (n - 1) / n times.
    return {
        "arithmetic": figures["flop"] / peak.flops,
        "memory": figures["bytes"] / peak.memory,
        "links": 2 * (count - 1) / count * sent / peak.links,
    }


def show_compiled(arguments: argparse.Namespace) -> None:
    """Prints what the compiler says, and what it means for the chips of PEAKS."""
    layout, train = sharding.make_layout(), {}
    if arguments.topology:
        layout = topology_layout(arguments.topology)
        train = {"compute_dtype": "bfloat16", "convolution": "lax"}
    elif arguments.form:
        train = {"convolution": arguments.form}
    made = compiled(arguments.config, arguments.each, layout, abstract_state, **train)
    figures = made.figures()
    print(f"{arguments.config}: {arguments.each} images on each of {figures['devices']} devices")
    print(f"  {figures['flop'] / 1e9:.1f} GFLOP and {figures['bytes'] / 1e9:.2f} GB on each device")
    print(
        f"  memory: {figures['arguments'] / 1e6:.0f} MB of state and batch, "
        f"{figures['temporary'] / 1e6:.0f} MB beside them"
    )
    print(f"  collectives: {shown(figures['collectives'])}")
    for name, peak in PEAKS.items():
        seconds = roofline(figures, peak)
        rate = figures["batch"] / max(seconds.values())
        parts = ", ".join(f"{key} {value * 1e3:.2f} ms" for key, value in seconds.items())
        print(f"  {name}: {parts}; at most {rate:,.0f} images/s")


def own_times(line) -> Iterator[tuple[str, float]]:
    """Names of a thread's operations with the nanoseconds that no operation within took."""
    events = [event for event in line.events if dict(event.stats).get("hlo_op")]
    events.sort(key=lambda event: (event.start_ns, -event.duration_ns))
    open_events: list[list] = []  # name, end, own nanoseconds
    for event in events:
        while open_events and open_events[-1][1] <= event.start_ns:
            name, _, own = open_events.pop()
            yield name, own
        if open_events:
            open_events[-1][2] -= event.duration_ns
        open_events.append([event.name, event.start_ns + event.duration_ns, event.duration_ns])
    yield from ((name, own) for name, _, own in open_events)


def names_of(text: str) -> dict[str, str]:
    """Where in the program each operation of a compiled module comes from; a fusion may have it inside only.

    Args:
      text: of the module (HLO).
    """
    names: dict[str, str] = {}
    inside: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    calls: dict[str, str] = {}
    computation = ""
    for line in text.splitlines():
        if match := _COMPUTATION.match(line):
            computation = match.group(1)
        elif match := _INSTRUCTION.match(line):
            name = match.group(1)
            if found := re.search(r'op_name="([^"]*)"', line):
                names[name] = found.group(1)
                inside[computation][found.group(1)] += 1
            elif found := re.search(r"(?:calls|to_apply)=%?([\w.-]+)", line):
                calls[name] = found.group(1)
    for name, called in calls.items():
        if inside[called]:
            names[name] = inside[called].most_common(1)[0][0]
    return names


def part_of(operation: str, origin: str) -> str:
    """Which part of the step an operation belongs to, by its origin, see `names_of`."""
    if not origin:
        return (
            "copies and layouts" if re.search("copy|transpose|bitcast", operation) else "not named"
        )
    way = "backward" if "transpose(" in origin else "forward"
    for network in ("MobileNet", "Perceptual", "Discriminator", "Generator"):
        if network in origin:
            return f"{network}, {way}"
    if "/cond/" in origin:
        return "update (Adam, accumulation, average)"
    return f"losses and masks, {way}"


def profile(arguments: argparse.Namespace) -> None:
    """Traces some steps and prints the parts of the step and its largest operations by their time."""
    made = compiled(arguments.config, arguments.each, sharding.make_layout())
    state, batch = made.state, made_batch(made)
    state, _ = made.step(state, batch)
    jax.block_until_ready(state)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(arguments.steps):
                state, metrics = made.step(state, batch)
                jax.block_until_ready((state, metrics))
        (trace,) = pathlib.Path(folder).rglob("*.xplane.pb")
        data = jax.profiler.ProfileData.from_file(str(trace))
        times: collections.Counter = collections.Counter()
        for plane in data.planes:
            for line in plane.lines:
                for name, own in own_times(line):
                    times[name] += own
    names = names_of(made.step.as_text())
    total = sum(times.values())
    print(f"{total / 1e9 / arguments.steps:.2f} s of operations a step, over all threads\n")
    parts: collections.Counter = collections.Counter()
    for name, own in times.items():
        parts[part_of(name, names.get(name, ""))] += own
    for title, counter in (("part", parts), ("operation", times)):
        print(f"| {title} | share |\n|---|---|")
        for name, own in counter.most_common(arguments.top):
            print(f"| {name} {names.get(name, '')} | {own / total:.1%} |")
        print()


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = {"weak": weak, "compiled": show_compiled, "profile": profile, "child": run_child}
    parser.add_argument("command", choices=commands)
    parser.add_argument(
        "--config", default="celeba128:quick", help="of configs/, NAME or NAME:VARIANT"
    )
    parser.add_argument("--each", type=int, default=8, help="images on each device")
    parser.add_argument(
        "--devices", type=int, nargs="+", default=[1, 2, 4, 8], help="weak: how many"
    )
    parser.add_argument("--steps", type=int, default=3, help="steps that are measured")
    parser.add_argument("--topology", default="", help="compiled: a TPU slice such as v5e:2x4")
    parser.add_argument("--form", default="", help="compiled: of 4x4 convolutions, see configs/")
    parser.add_argument("--top", type=int, default=20, help="profile: lines of each table")
    for name in ("--processes", "--process"):
        parser.add_argument(name, type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--address", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    commands[arguments.command](arguments)


if __name__ == "__main__":
    main()
