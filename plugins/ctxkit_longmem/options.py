"""The options of the patches."""

from typing import Annotated, Literal

from pydantic import PositiveInt

from ctxkit.spec import Context, Patch, PatchOptions, Tokens


class TiledMlpOptions(PatchOptions):
    """The MLP of every layer over one tile of tokens at a time, so that its inner activations never exist for a row."""

    kind: Literal["tiled_mlp"]
    tile: Annotated[PositiveInt, Tokens()] = 4096
    """The most tokens of a tile. Smaller ones need less memory; below about 1,000 a GPU is no longer busy."""

    @property
    def mlp_tile_tokens(self) -> int | None:
        """The tokens of a tile."""
        return self.tile

    def build(self, context: Context) -> Patch:
        """Return a function that has the MLPs of a model computed in tiles."""
        from functools import partial

        from ctxkit_longmem.tiled_mlp import tile_mlps

        return partial(tile_mlps, tile=self.tile)
