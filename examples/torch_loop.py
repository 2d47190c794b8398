"""A data set of ours in a PyTorch loop.

python examples/torch_loop.py
"""

import torch

from train import config, data

settings = config.defaults()
settings.data.name = 'digits'
loader = torch.utils.data.DataLoader(data.load(settings.data, 'train'), batch_size=64, shuffle=True)
network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
optimizer = torch.optim.Adam(network.parameters(), 0.01)
for epoch in range(5):
    for batch in loader:
        images = batch['image'].permute(0, 3, 1, 2) / 255  # ours are [batch, height, width, channels], bytes
        loss = torch.nn.functional.cross_entropy(network(images), batch['label'])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f'epoch {epoch + 1}  loss {loss.item():.4f}')
