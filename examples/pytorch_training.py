"""Log what a PyTorch training loop sees and predicts.

A small network learns to tell the distance of each pixel from its color and place, on one photograph with measured
disparity. What is new here are the lines that begin with `lt.`: they take the loop's own tensors, also those on a GPU.
"""

import torch
from skimage import data
from torch import nn

import lumatile as lt

STEPS = 60
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

photo, _, disparity = data.stereo_motorcycle()
pixels = torch.as_tensor(photo[:256, :256].copy(), device=DEVICE).permute(2, 0, 1)  # (3, 256, 256) uint8
disparities = torch.as_tensor(disparity[:256, :256].copy(), device=DEVICE)  # (256, 256) float32, inf: not measured
valid = disparities.isfinite()
metres = torch.where(valid, 192.031 / (disparities + 31.086), 0.0)  # baseline * focal length / disparity

rows, columns = torch.meshgrid(*2 * [torch.linspace(-1, 1, 256, device=DEVICE)], indexing="ij")
inputs = torch.cat([pixels / 255, torch.stack([rows, columns])])[None]  # (1, 5, 256, 256)
model = nn.Sequential(
    nn.Conv2d(5, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 1, 1)
).to(DEVICE)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

recording = lt.init("pytorch_training", sink="runs")
# Pixels are logged as uint8, which means sRGB. Floats would mean linear light: `pixels / 255` would look washed out.
lt.log_image("input", pixels.permute(1, 2, 0), timeless=True)  # channels last
lt.log_depth_image("target", metres, timeless=True)

for step in range(STEPS):
    lt.set_time_sequence("step", step)
    predicted = model(inputs)[0, 0]
    loss = ((predicted - metres)[valid] ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 20 == 0 or step == STEPS - 1:
        lt.log_depth_image("prediction", predicted.detach(), ext={"loss": loss.item()})
lt.flush()  # returns when everything is durable

for frame in lt.open_store("runs").recording(recording.recording_id).frames("prediction"):
    loss_then = frame.ext["loss"] if frame.ext else None
    print(f"step {frame.times['step']}: loss {loss_then:.3f}, {frame.shape} prediction")
