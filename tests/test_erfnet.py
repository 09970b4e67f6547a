"""ERFNet is the network of its paper: layers, number of parameters, what each part computes."""

import pytest


def setup_module():
    global Downsampler, ERFNet, F, NonBottleneck1D, torch, Upsampler
    import torch
    import torch.nn.functional as F

    from course_utils.models.erfnet import Downsampler, ERFNet, NonBottleneck1D, Upsampler


def parameters(net):
    return sum(p.numel() for p in net.parameters())


def by_hand(classes):
    """Count the authors' layers: weights, biases, and batch norm's two a channel."""

    def down(i, o):
        return 9 * i * (o - i) + (o - i) + 2 * o

    def block(c):
        return 4 * (3 * c * c + c) + 2 * 2 * c

    def up(i, o):
        return 9 * i * o + o + 2 * o

    encoder = down(3, 16) + down(16, 64) + 5 * block(64) + down(64, 128) + 8 * block(128)
    decoder = up(128, 64) + 2 * block(64) + up(64, 16) + 2 * block(16)
    return encoder + decoder + 4 * 16 * classes + classes


def test_it_has_the_papers_two_million_and_six_hundredths_for_20_classes():
    assert parameters(ERFNet(20)) == by_hand(20) == 2_064_256
    alone = ERFNet(20, decoder=False)  # the authors' code holds this head in the whole net, too
    assert parameters(alone.head) == 2_580


@pytest.mark.parametrize("decoder", [True, False])
def test_logits_have_the_size_of_the_images(decoder):
    net = ERFNet(5, (4, 8, 12), 1, (2,), decoder=decoder)
    assert net(torch.rand(2, 3, 24, 40)).shape == (2, 5, 24, 40)


def test_a_size_that_cannot_be_halved_three_times_is_refused_in_words():
    with pytest.raises(ValueError, match="multiples of 8, got 227 x 320"):
        ERFNet(7)(torch.zeros(1, 3, 227, 320))


def test_a_block_of_zeros_lets_its_input_through():
    block = NonBottleneck1D(4, dilation=2).eval()
    for parameter in block.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.randn(1, 4, 6, 8)
    assert torch.equal(block(x), F.relu(x))


def test_a_block_reaches_as_far_as_its_dilation():
    seen = torch.zeros(21, 21, dtype=torch.bool)
    for seed in range(20):  # in one block alone ReLU may stop a way
        torch.manual_seed(seed)
        block = NonBottleneck1D(3, dilation=4).eval()
        x = torch.rand(1, 3, 21, 21, requires_grad=True)
        block(x)[0, :, 10, 10].sum().backward()
        seen |= x.grad.abs().sum(dim=(0, 1)) > 0
    rows = seen.any(dim=1).nonzero()
    assert (rows.min().item(), rows.max().item()) == (5, 15)  # 1 + 4 to each side


def test_downsampling_keeps_the_pooled_input_as_its_last_channels():
    layer = Downsampler(3, 8).eval()
    x = torch.rand(1, 3, 6, 8)
    assert torch.allclose(layer(x)[:, 5:], F.max_pool2d(x, 2), atol=1e-3)


@pytest.mark.parametrize("kernel", [3, 4])
def test_an_upsampler_doubles_the_size(kernel):
    assert Upsampler(8, 4, kernel)(torch.rand(1, 8, 5, 7)).shape == (1, 4, 10, 14)


def test_the_whole_takes_up_the_encoder_that_was_trained_alone():
    alone = ERFNet(5, (4, 8, 12), 1, (2,), decoder=False)
    whole = alone.with_decoder()
    assert whole.encoder is alone.encoder
    assert whole(torch.rand(1, 3, 16, 24)).shape == (1, 5, 16, 24)
