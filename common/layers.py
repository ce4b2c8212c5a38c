"""A model's layers and parameters, printed as Flux shows them."""

from torch import nn


def describe(model: nn.Sequential) -> str:
    """The layers, a line each, with the number of parameters; arrays, parameters and bytes in all.

    Flux counts the parameters' bytes plus 64 for each array, as in the lecture's figure.
    """
    lines = ["Sequential("]
    for layer in model:
        text = f"  {layer},"
        if isinstance(layer, nn.Linear):
            text = f"  Linear({layer.in_features} -> {layer.out_features}),"
            text = f"{text:26}# {sum(p.numel() for p in layer.parameters()):,} parameters"
        lines.append(text)
    arrays = list(model.parameters())
    size = sum(p.numel() * p.element_size() for p in arrays)
    total = sum(p.numel() for p in arrays)
    flux = f"Flux counts 64 bytes more for each array: {size + 64 * len(arrays):,}"
    found = f"{len(arrays)} arrays, {total:,} parameters, {size:,} bytes"
    lines.append(f")  # Total: {found} ({flux})")
    return "\n".join(lines)
