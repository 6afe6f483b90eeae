"""Two processes on a CPU (gloo): DistributedDataParallel and FSDP2 against one process with the paper's formula."""

import os

import mma
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from reference import minimal_angle
from torch import nn

pytestmark = pytest.mark.slow

WORLD, STEPS, COEFFICIENT = 2, 3, 0.5


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 8), nn.Tanh(), nn.Linear(8, 4)).double()


def batch(step):
    return torch.randn(8, 6, generator=torch.Generator().manual_seed(step), dtype=torch.float64)


def share_of_batch(step):
    return batch(step).chunk(WORLD)[dist.get_rank()]


def one_process():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for step in range(STEPS):
        optimizer.zero_grad()
        regularization = sum(minimal_angle(model[k].weight) for k in (0, 2, 4))
        (model(batch(step)).square().mean() + COEFFICIENT * regularization).backward()
        optimizer.step()
    return [p.detach() for p in model.parameters()]


def train(parallel, term):
    """term: a part of the loss of each process, or attach where there is none."""
    optimizer = torch.optim.SGD(parallel.parameters(), lr=0.1, momentum=0.9)
    if term is None:
        mma.attach(parallel, optimizer, coefficient=COEFFICIENT)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = parallel(share_of_batch(step)).square().mean()
        (loss if term is None else loss + term()).backward()
        optimizer.step()


def ddp_attach():
    model = network()
    train(nn.parallel.DistributedDataParallel(model), None)
    return model


def ddp_share():
    model = network()
    parallel = nn.parallel.DistributedDataParallel(model)
    share = (dist.get_rank(), WORLD)
    train(parallel, mma.Regularizer(parallel, coefficient=COEFFICIENT, share=share))
    return model


def ddp_whole():
    model = network()
    parallel = nn.parallel.DistributedDataParallel(model)
    train(parallel, mma.Regularizer(parallel, coefficient=COEFFICIENT))
    return model


def sharded():
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model, mesh = network(), init_device_mesh("cpu", (WORLD,))
    for layer in (model[0], model[2], model[4]):
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def fsdp_attach():
    model = sharded()
    train(model, None)
    return model


def fsdp_term():
    model = sharded()
    train(model, mma.Regularizer(model, coefficient=COEFFICIENT))
    return model


WAYS = [ddp_attach, ddp_share, ddp_whole, fsdp_attach, fsdp_term]


def worker(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORLD)
    try:
        for way in WAYS:
            weights = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in way().parameters()]
            torch.save([w.detach() for w in weights], os.path.join(folder, f"{way.__name__}.{rank}.pt"))
        try:
            mma.Regularizer(sharded(), share=(rank, WORLD))()
        except ValueError as error:
            torch.save(str(error), os.path.join(folder, "refusal.pt"))
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("distributed")
    multiprocessing.spawn(worker, (str(path),), nprocs=WORLD)
    return path


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_two_processes_train_as_one(way, folder):
    expected = one_process()
    for rank in range(WORLD):
        for ours, theirs in zip(torch.load(folder / f"{way.__name__}.{rank}.pt"), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_a_share_of_sharded_weights_is_refused(folder):
    assert torch.load(folder / "refusal.pt").startswith("mma: share was given for weights that FSDP shards")
