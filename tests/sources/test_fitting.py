"""A network in a file is found by what fits exactly; what was taken off, left out or changed is said."""

import argparse
import re

import pytest
import timm
import torch
import torchvision
from networks import randomize
from safetensors.torch import save_file

from sourcematters import sources
from sourcematters.errors import StudyError


def loaded(path, backbone="test_resnet", size=64, **entry):
    """The tensors of the network that a user's own file makes, and what was said."""
    source = sources.resolve("mine", backbone, weights={"mine": {"path": str(path), **entry}})
    model, done = source.loaded(backbone, size=size)
    return model.state_dict(), done


def under(prefix, state):
    return {f"{prefix}{key}": value for key, value in state.items()}


def bare(state):
    return {key: value for key, value in state.items() if not key.startswith("fc.")}


def other(state):
    return {key: value + 1 for key, value in state.items()}


ADAM = {"optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}}
HEAD = {"top.0.weight": torch.zeros(64, 96), "top.1.weight": torch.zeros(64), "top.3.weight": torch.zeros(2, 64)}
CHAIN = {"dense1.weight": torch.zeros(64, 96), "norm1.bias": torch.zeros(64), "out.weight": torch.zeros(2, 64)}
WRAPPED = {
    "none": (lambda s: s, ""),
    "a head": (lambda s: bare(s) | HEAD, "top left out"),
    "heads": (lambda s: bare(s) | CHAIN, "dense1, norm1, out left out"),
    "model_state_dict": (lambda s: {"model_state_dict": s, **ADAM}, "model_state_dict. taken off"),
    "deit": (lambda s: {"model": s, "args": argparse.Namespace(lr=1), "epoch": 3, **ADAM}, "model. taken off"),
    "lightning": (
        lambda s: {"state_dict": under("model.", s) | {"loss.weight": torch.ones(2)}, "epoch": 3},
        "state_dict.model. taken off",
    ),
    "compiled": (lambda s: under("module._orig_mod.", s), "module._orig_mod. taken off"),
    "encoder": (
        lambda s: under("net.encoder.", bare(s)) | {"net.decoder.weight": torch.ones(8, 3, 3, 3)},
        "net.encoder. taken off",
    ),
    "students": (
        lambda s: {"student": under("module.backbone.", other(s)), "teacher": under("backbone.", s)},
        "teacher.backbone. taken off; not taken, though it fits: student.module.backbone.",
    ),
    "ema": (
        lambda s: {"state_dict_ema": other(s), "state_dict": s},
        "state_dict. taken off; not taken, though it fits: state_dict_ema.",
    ),
    "ema before model": (
        lambda s: {"model_ema": other(s), "net": s},
        "net. taken off; not taken, though it fits: model_ema.",
    ),
    "in a row": (
        lambda s: {
            re.sub(r"^(\w+)", lambda n: str(["conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "layer3", "layer4"]
            .index(n[0])), key): value for key, value in bare(s).items()
        },
        "children by number",
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrapping", WRAPPED)
def test_wrappings_are_taken_off_by_what_fits_and_said(small, tmp_path, wrapping):
    wrap, said = WRAPPED[wrapping]
    torch.save(wrap(small[1]), tmp_path / "a.pt")
    found, done = loaded(tmp_path / "a.pt")
    assert done == said
    assert found.keys() == bare(small[1]).keys() and all(torch.equal(found[key], small[1][key]) for key in found)


def test_the_table_of_sources_says_what_was_done(small, tmp_path):
    torch.save({"state_dict": small[1]}, tmp_path / "a.pt")
    assert sources.resolve("mine", "test_resnet", weights={"mine": str(tmp_path / "a.pt")}).card == {
        "loading": "state_dict. taken off"
    }


@pytest.mark.parametrize(
    ("left_over", "named"),
    [
        ({"decoder.weight": torch.zeros(8, 96, 3, 3)}, "decoder.weight"),  # no head: it convolves
        ({"top.weight": torch.zeros(2, 100)}, "top.weight"),  # not on the features
        ({"layer4.extra.weight": torch.zeros(2, 96)}, "layer4.extra.weight"),  # inside of the network
        ({"norm_pre.weight": torch.zeros(96)}, "norm_pre.weight"),  # on the features, but no head
    ],
)
def test_what_is_no_head_is_not_left_out(small, tmp_path, left_over, named):
    save_file(small[1] | left_over, tmp_path / "a.safetensors")
    with pytest.raises(StudyError, match=f"1 not of this network: {named}"):
        loaded(tmp_path / "a.safetensors")


def test_beginnings_of_names_are_renamed(small, tmp_path):
    stem = {key.replace("conv1.", "stem/", 1) if key.startswith("conv1.") else key: v for key, v in small[1].items()}
    torch.save({"ema": under("my-", stem), "model": other(small[1])}, tmp_path / "a.pt")
    found, done = loaded(tmp_path / "a.pt", rename={"ema.my-": "", "ema.my-stem/": "conv1."})
    assert all(torch.equal(found[key], small[1][key]) for key in found)
    assert done == "not taken, though it fits: model."
    one, two, three = (
        sources.resolve("mine", "test_resnet", weights={"mine": {"path": str(tmp_path / "a.pt"), "rename": rename}})
        for rename in ({}, {"ema.": ""}, {"ema.": "x."})
    )
    assert len({one.identity, two.identity, three.identity}) == 3 and one.identity.startswith("sha256:")
    for rename, said in (
        ({"emma.": ""}, "no name begins with 'emma.', as `rename` has it. Names begin with ema, model"),
        ({"ema.my-": "", "model.": ""}, "`rename` makes two tensors called '.*1"),
    ):
        with pytest.raises(StudyError, match=said):
            loaded(tmp_path / "a.pt", rename=rename)


def test_a_first_layer_of_one_channel_sees_the_same_in_three(tmp_path):
    one = randomize(timm.create_model("test_resnet", num_classes=0, in_chans=1)).eval()
    save_file(one.state_dict(), tmp_path / "a.safetensors")
    source = sources.resolve("mine", "test_resnet", weights={"mine": str(tmp_path / "a.safetensors")})
    three, done = source.loaded("test_resnet", size=64)
    grey = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.inference_mode():
        due, found = one.double()(grey), three.double().eval()(grey.expand(-1, 3, -1, -1))
    assert due.abs().min() > 1e-3 and torch.allclose(found, due, rtol=1e-6, atol=0)
    assert done == "conv1.0.weight of one channel spread over three"


def spoiled(value):
    def spoil(state):
        tensor = state["layer2.0.conv1.weight"].clone()
        tensor.view(-1)[3] = value
        return {**state, "layer2.0.conv1.weight": tensor}

    return spoil


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoiled(float("nan")), "1 of its .* tensors are not finite .*: layer2.0.conv1.weight"),
        (spoiled(float("-inf")), "1 of its .* tensors are not finite"),
        (lambda s: {k: v.double() * 1e300 for k, v in s.items()}, "tensors are not finite .*beyond 32 bits"),
        (lambda s: {k: (v * 100).to(torch.int8) for k, v in s.items()}, "are no real numbers .*: conv1.0.weight"),
        (lambda s: {k: v.to(torch.complex64) for k, v in s.items()}, "are no real numbers"),
        (lambda s: {k: torch.zeros_like(v) for k, v in s.items()}, "all of its weights are zero"),
    ],
)
def test_values_that_are_no_weights_are_named_before_any_run(small, tmp_path, spoil, said):
    torch.save(spoil(small[1]), tmp_path / "a.pt")
    with pytest.raises(StudyError, match=f"a.pt: .*{said}"):
        loaded(tmp_path / "a.pt")


def test_a_size_is_compared_before_memory_is_asked_for(small, tmp_path):
    huge = torch.zeros(1).expand(10**6, 10**6)  # 4 TB in a file of kilobytes
    torch.save({**small[1], "conv1.0.weight": huge}, tmp_path / "a.pt")
    with pytest.raises(StudyError, match=r"1 of another shape: conv1.0.weight \(1000000, 1000000\)"):
        loaded(tmp_path / "a.pt")


def densenet_before_2018(state):
    """torchvision's published DenseNets still have the names of that time, and no counters of batches."""
    return {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key): value
        for key, value in state.items()
        if not key.endswith("num_batches_tracked")
    }


def convnext_of_its_authors(state):
    """github.com/facebookresearch/ConvNeXt: stem and downsampling in one list, `dwconv`, `pwconv1`, `pwconv2`."""
    names = {
        r"^stem\.": "downsample_layers.0.", r"^stages\.(\d)\.downsample\.": r"downsample_layers.\1.",
        r"\.blocks\.": ".", r"conv_dw": "dwconv", r"mlp\.fc": "pwconv", r"^head\.norm\.": "norm.",
        r"^head\.fc\.": "head.",
    }  # fmt: skip
    for old, new in names.items():
        state = {re.sub(old, new, key): value for key, value in state.items()}
    return {"model": state}


def dinov2_of_its_authors(state):
    return under("teacher.backbone.", {**state, "mask_token": torch.zeros(1, 64)})


PUBLISHED = {
    "torchvision's DenseNet": (
        "densenet121",
        lambda: torchvision.models.densenet121(weights=None),
        densenet_before_2018,
        "keys by timm's filter",
    ),
    "ConvNeXt": (
        "test_convnext",
        lambda: timm.create_model("test_convnext"),
        convnext_of_its_authors,
        "model. taken off; keys by timm's filter",
    ),
    "DINOv2": (
        "test_vit",
        lambda: timm.create_model("test_vit", img_size=64),
        dinov2_of_its_authors,
        "teacher.backbone. taken off; mask_token left out",
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_layouts_load_by_timms_own_filters(name, tmp_path):
    backbone, build, layout, said = PUBLISHED[name]
    state = randomize(build()).state_dict()
    torch.save(layout(state), tmp_path / "a.pt")
    found, done = loaded(tmp_path / "a.pt", backbone)
    assert done == said
    wanted = {key: value for key, value in state.items() if key in found}
    assert all(key in wanted or key.endswith("num_batches_tracked") for key in found)
    assert all(torch.allclose(found[k], wanted[k]) for k in wanted if not k.endswith("num_batches_tracked"))


@pytest.mark.parametrize(("backbone", "size"), [("test_vit4", 96), ("test_coatnet", 96)])
def test_positions_of_another_size_are_brought_to_the_studys_as_timm_does(backbone, size):
    state = randomize(timm.create_model(backbone)).state_dict()
    network = sources.create(backbone, size=size)
    assert sources.load_exactly(network, state, backbone, origin="a") == "keys by timm's filter"
    overlay = {"pretrained_cfg_overlay": {"state_dict": state}}
    due = sources.create(backbone, size=size, pretrained=True, **overlay).state_dict()
    assert all(torch.equal(value, due[key]) for key, value in network.state_dict().items())
