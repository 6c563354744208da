"""The same network and training step in PyTorch, as a timed process of training_step.py.

Timed: one step on one batch already in memory: latents drawn, one forward pass of G and of D on real and
fake, both gradients at the same parameters from that one graph (`autograd.grad` by G's parameters only,
then by D's only, so that nothing is computed that is not used), one fused Adam step each. channels_last,
which PyTorch recommends for convolutions on CPU and GPU alike.
"""

import contextlib
from collections.abc import Callable

import peer_protocol
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits


class Generator(nn.Module):
    """Latents (B, 100) to images (B, 3, 128, 128)."""

    def __init__(self):
        super().__init__()
        self.project = nn.Linear(peer_protocol.LATENT, 8 * 8 * 512, bias=False)
        layers: list[nn.Module] = [nn.BatchNorm2d(512), nn.LeakyReLU(0.2)]
        for inputs, outputs in ((512, 256), (256, 128), (128, 64)):
            layers += [
                nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(64, 3, 4, 2, 1), nn.Tanh())

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Generates one image per latent."""
        x = self.project(z).view(-1, 512, 8, 8).to(memory_format=torch.channels_last)
        return self.layers(x)


def make_discriminator() -> nn.Module:
    """Images (B, 3, 128, 128) to logits (B, 1)."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 64), (64, 128), (128, 256), (256, 512)):
        layers += [nn.Conv2d(inputs, outputs, 4, 2, 1), nn.LeakyReLU(0.2), nn.Dropout(0.3)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 8 * 512, 1))


def make_step(batch: int, device: str, variant: str) -> Callable[[], None]:
    """A function that does one training step: float32, or bfloat16 autocast, compiled or not."""
    torch.backends.cudnn.benchmark = True
    g = Generator().to(device, memory_format=torch.channels_last)
    d = make_discriminator().to(device, memory_format=torch.channels_last)
    g_params, d_params = list(g.parameters()), list(d.parameters())
    adam = {"lr": 2e-4, "betas": (0.5, 0.999), "fused": True}
    g_adam, d_adam = torch.optim.Adam(g_params, **adam), torch.optim.Adam(d_params, **adam)
    if variant == "compiled":
        g, d = torch.compile(g), torch.compile(d)
    real = torch.randn(batch, 3, 128, 128, device=device).clamp(-1, 1)
    real = real.to(memory_format=torch.channels_last)
    ones, zeros = torch.ones(batch, 1, device=device), torch.zeros(batch, 1, device=device)
    loss = binary_cross_entropy_with_logits

    def step() -> None:
        z = torch.randn(batch, peer_protocol.LATENT, device=device)
        plain = contextlib.nullcontext()
        with plain if variant == "float32" else torch.autocast(device, torch.bfloat16):
            fake = g(z)
            on_fake, on_real = d(fake), d(real)
        g_loss = loss(on_fake.float(), ones)
        d_loss = loss(on_real.float(), ones) + loss(on_fake.float(), zeros)
        g_grads = torch.autograd.grad(g_loss, g_params, retain_graph=True)
        d_grads = torch.autograd.grad(d_loss, d_params)
        for params, grads in ((g_params, g_grads), (d_params, d_grads)):
            for param, grad in zip(params, grads, strict=True):
                param.grad = grad
        g_adam.step()
        d_adam.step()

    return step


def main() -> None:
    """Serves the parent."""
    options = peer_protocol.arguments(("float32", "bfloat16", "compiled"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    step = make_step(options.batch, device, options.variant)

    def run(steps: int) -> None:
        for _ in range(steps):
            step()
        if device == "cuda":
            torch.cuda.synchronize()

    peer_protocol.serve(run, options.steps, version=f"PyTorch {torch.__version__}")


if __name__ == "__main__":
    main()
