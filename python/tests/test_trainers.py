"""The wrappers for Lightning and Hugging Face's Trainer, each by a step against the paper's formula."""

import os

import pytest
import torch
from reference import minimal_angle
from torch import nn

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

RATE, COEFFICIENT = 0.1, 0.5


def expected_weight(layer, x):
    loss = layer(x).square().mean() + COEFFICIENT * minimal_angle(layer.weight)
    return (layer.weight - RATE * torch.autograd.grad(loss, layer.weight)[0]).detach()


def data():
    torch.manual_seed(1)
    return torch.randn(4, 6)


def test_lightning(tmp_path):
    lightning = pytest.importorskip("lightning.pytorch")
    import mma.lightning

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 5)

        def training_step(self, x, _):
            return self.layer(x).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=RATE)

    model = Model()
    expected = expected_weight(model.layer, data())
    trainer = lightning.Trainer(
        max_steps=1, accelerator="cpu", default_root_dir=tmp_path, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[mma.lightning.MMA(coefficient=COEFFICIENT)],
    )  # fmt: skip
    trainer.fit(model, torch.utils.data.DataLoader(data(), batch_size=4))
    torch.testing.assert_close(model.layer.weight.detach(), expected, rtol=0, atol=1e-6)
    assert trainer.callback_metrics["mma"] < 0


def test_hugging_face_trainer(tmp_path):
    transformers = pytest.importorskip("transformers")
    import mma.transformers

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 5)

        def forward(self, x):
            return {"loss": self.layer(x).square().mean()}

    os.environ["HF_HUB_OFFLINE"] = "1"
    model = Model()
    expected = expected_weight(model.layer, data())
    arguments = transformers.TrainingArguments(
        str(tmp_path), max_steps=1, per_device_train_batch_size=4, learning_rate=RATE, lr_scheduler_type="constant",
        optim="sgd", max_grad_norm=0, report_to=[], use_cpu=True, save_strategy="no", disable_tqdm=True,
        remove_unused_columns=False,
    )  # fmt: skip
    callback = mma.transformers.MMA(coefficient=COEFFICIENT)
    rows = [{"x": row} for row in data()]
    trainer = transformers.Trainer(model, arguments, train_dataset=rows, callbacks=[callback])
    trainer.train()
    torch.testing.assert_close(model.layer.weight.detach(), expected, rtol=0, atol=1e-6)
    assert callback.attachment.loss.item() < 0
