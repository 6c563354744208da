"""The same network and training step in PyTorch, as a timed process of training_step.py.

Timed: one step on one batch already in memory: latents drawn, one forward pass of G and of D on real and
fake, both gradients at the same parameters from that one graph (the generator's from `autograd.grad` by
G's parameters only, the discriminator's by D's only, so nothing is computed that is not used), one fused
Adam step each. channels_last, which PyTorch recommends for convolutions on both CPU and GPU.
"""

import contextlib

import peer_protocol
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

LATENT = 100


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.project = nn.Linear(LATENT, 8 * 8 * 512, bias=False)
        layers = [nn.BatchNorm2d(512), nn.LeakyReLU(0.2)]
        for inputs, outputs in ((512, 256), (256, 128), (128, 64)):
            layers += [
                nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(64, 3, 4, 2, 1), nn.Tanh())

    def forward(self, z):
        x = self.project(z).view(-1, 512, 8, 8).to(memory_format=torch.channels_last)
        return self.layers(x)


def discriminator() -> nn.Module:
    layers = []
    for inputs, outputs in ((3, 64), (64, 128), (128, 256), (256, 512)):
        layers += [nn.Conv2d(inputs, outputs, 4, 2, 1), nn.LeakyReLU(0.2), nn.Dropout(0.3)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 8 * 512, 1))


def make_step(batch: int, device: str, bfloat16: bool):
    g = Generator().to(device, memory_format=torch.channels_last)
    d = discriminator().to(device, memory_format=torch.channels_last)
    g_params, d_params = list(g.parameters()), list(d.parameters())
    adam = {"lr": 2e-4, "betas": (0.5, 0.999), "fused": True}
    g_adam, d_adam = torch.optim.Adam(g_params, **adam), torch.optim.Adam(d_params, **adam)
    real = torch.randn(batch, 3, 128, 128, device=device).clamp(-1, 1)
    real = real.to(memory_format=torch.channels_last)
    ones, zeros = torch.ones(batch, 1, device=device), torch.zeros(batch, 1, device=device)
    cast = torch.autocast(device, torch.bfloat16) if bfloat16 else contextlib.nullcontext()

    def gradients(z):
        with cast:
            fake = g(z)
            on_fake, on_real = d(fake).float(), d(real).float()
        g_loss = binary_cross_entropy_with_logits(on_fake, ones)
        d_loss = binary_cross_entropy_with_logits(on_real, ones)
        d_loss = d_loss + binary_cross_entropy_with_logits(on_fake, zeros)
        return (
            torch.autograd.grad(g_loss, g_params, retain_graph=True),
            torch.autograd.grad(d_loss, d_params),
        )

    def step():
        for params, grads in zip(
            (g_params, d_params), gradients(torch.randn(batch, LATENT, device=device))
        ):
            for param, grad in zip(params, grads):
                param.grad = grad
        g_adam.step()
        d_adam.step()

    return step


def make_compiled_step(batch: int, device: str):
    """The bfloat16 step with both networks through torch.compile."""
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    global Generator, discriminator
    build_g, build_d = Generator, discriminator
    raise NotImplementedError


def main():
    options = peer_protocol.arguments(__doc__, ("float32", "bfloat16"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    step = make_step(options.batch, device, options.variant == "bfloat16")

    def run(steps):
        for _ in range(steps):
            step()
        if device == "cuda":
            torch.cuda.synchronize()

    peer_protocol.serve(
        run, options.steps, version=torch.__version__, threads=torch.get_num_threads()
    )


main()
