"""A model's layers and parameters, printed as Flux shows them."""

from torch import nn


def describe(model: nn.Sequential) -> str:
    """The layers, a line each, with the number of parameters; arrays, parameters and bytes in all.

    Flux's figure for the memory is the parameters' bytes plus 64 for each array; it is named beside
    the plain one, so that the line can be compared with the lecture's.
    """
    lines = ["Sequential("]
    for layer in model:
        count = sum(p.numel() for p in layer.parameters())
        text = (
            f"Linear({layer.in_features} -> {layer.out_features})"
            if isinstance(layer, nn.Linear)
            else f"{layer}"
        )
        lines.append(f"  {text + ',':24}" + (f"# {count:,} parameters" if count else ""))
    arrays = list(model.parameters())
    size = sum(p.numel() * p.element_size() for p in arrays)
    total = sum(p.numel() for p in arrays)
    lines.append(
        f")  # Total: {len(arrays)} arrays, {total:,} parameters, {size:,} bytes "
        f"(Flux counts 64 bytes more for each array: {size + 64 * len(arrays):,})"
    )
    return "\n".join(line.rstrip() for line in lines)
