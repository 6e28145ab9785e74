import torch

# Threads that wait for each other are slower than one where tests share the cores.
torch.set_num_threads(1)
