#!/usr/bin/env bash
# jax 0.10.2: a function jitted with `compiler_options` can be called, mapped by `vmap`, lowered and exported,
# but `grad`, `linearize`, `checkpoint`, `make_jaxpr`, `lax.scan` over it and any jit round it raise ValueError:
# the options are for "top-level" jit only. `eval_shape(f, x)` works, `eval_shape(lambda y: f(y), x)` does not.
# Expected: options that concern the compiler to be without effect where nothing is compiled, or a warning; the
# same function without them passes all of these. So a library function that sets them is no longer
# composable: set them where the outermost program is compiled, and keep the function itself plain.
# Seen on Linux, Python 3.11, CPU: the table below.
# Exits with 0 while that is so, with 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    jax==0.10.2 jaxlib==0.10.2 numpy==2.2.6
cat >"$folder/one.py" <<'PYTHON'
import jax
import jax.numpy as jnp

jax.config.update("jax_platforms", "cpu")
plain = jax.jit(lambda x: jnp.sin(x).sum())
optioned = jax.jit(
    lambda x: jnp.sin(x).sum(), compiler_options={"xla_backend_optimization_level": 1}
)
x = jnp.ones(3)
USES = {
    "call": lambda f: f(x),
    "vmap": lambda f: jax.vmap(f)(x[None]),
    "lower": lambda f: f.lower(x),
    "export": lambda f: jax.export.export(f)(x),
    "eval_shape": lambda f: jax.eval_shape(f, x),
    "eval_shape of a lambda": lambda f: jax.eval_shape(lambda y: f(y), x),
    "grad": lambda f: jax.grad(f)(x),
    "linearize": lambda f: jax.linearize(f, x),
    "checkpoint": lambda f: jax.checkpoint(f)(x),
    "make_jaxpr": lambda f: jax.make_jaxpr(f)(x),
    "scan": lambda f: jax.lax.scan(lambda c, _: (c + f(c * x), None), 0.0, None, 2),
    "jit": lambda f: jax.jit(lambda y: f(y))(x),
}


def outcome(use, f):
    try:
        use(f)
    except ValueError as error:
        return "ValueError" if "top-level" in str(error) else str(error)
    return "works"


for name, use in USES.items():
    print(f"{name}: {outcome(use, plain)}, with options {outcome(use, optioned)}")
PYTHON
"$folder/venv/bin/python" "$folder/one.py" | tee "$folder/seen"
for use in call vmap lower export eval_shape; do
    grep -q "^$use: works, with options works$" "$folder/seen"
done
for use in 'eval_shape of a lambda' grad linearize checkpoint make_jaxpr scan jit; do
    grep -q "^$use: works, with options ValueError$" "$folder/seen"
done
