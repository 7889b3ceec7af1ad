"""What the processes of test_parallel.py run. Imports no transformers, which would be most of their time."""

import plain_ops
import torch
import torch.distributed as dist

from pytest_perfq.kernels import encoder, packing, parallel


def split(rank, folder, world, jobs):
    """One process of `world`: every job (tp, pp, weights, recipe, feeds) in turn, on the plain-torch operations, so that a
    difference is one of splitting; the last stage's logits go to a file in `folder`."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    for number, (tp, pp, whole, recipe, feeds) in enumerate(jobs):
        place = parallel.Place(rank, tp, pp)
        own, own_recipe = parallel.part(whole, recipe, place)
        mine = encoder.Encoder(packing.pack(own, plain_ops, own_recipe), plain_ops, parallel.reducer(place))
        outputs = [parallel.forward(mine, encoder.Feed(*feed), place) for feed in feeds]
        if place.after is None:
            torch.save(outputs, f"{folder}/{number}-{place.shard}.pt")
        else:
            assert outputs == [None] * len(feeds)
    dist.destroy_process_group()
