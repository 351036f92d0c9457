"""Methods by name: what `search.method` refers to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from darts_ray.config.methods import METHOD_CONFIGS, MethodConfig, parse_method
from darts_ray.errors import ConfigError
from darts_ray.nn import ConvSupernet, RecurrentSupernet
from darts_ray.nn.supernet import Supernet
from darts_ray.search.parts import Method
from darts_ray.space import resolve_space

Build: TypeAlias = Callable[[Any], Method]
"""Maps a method's values to its parts."""

MethodLike: TypeAlias = str | Mapping[str, Any] | MethodConfig | Method
"""A name, `{name: NAME, ...}`, the values, or the method itself."""


class MethodRegistry(Mapping[str, Method]):
    """The named methods with their papers' constants; read as a mapping.

    Example:
        supernet = methods.supernet("pc_darts", channels=16, layers=8)
        step = BilevelStep(supernet, SearchOptimConfig(), method="pc_darts")
    """

    def __init__(self, builds: Mapping[str, Build]) -> None:
        """Start with the package's own."""
        self._builds = dict(builds)
        self._own = frozenset(builds)

    def __getitem__(self, name: str) -> Method:
        """Return the method of that name with its default values."""
        return self._builds[name](METHOD_CONFIGS[name].model_validate({"name": name}))

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._builds)

    def __len__(self) -> int:
        """Return the number of methods."""
        return len(self._builds)

    def register(self, name: str, build: Build, config: type[MethodConfig] = MethodConfig) -> None:
        """Add a method; the module that does so is named in `search.method.imports`.

        Registering the same name again replaces a method of the user's own, so that a notebook's
        cell may run twice.

        Args:
            name: as in `search.method`.
            build: returns the parts.
            config: what a user may set.

        Raises:
            ConfigError: the package's own method has that name.
        """
        if name in self._own:
            raise ConfigError(f"methods.register: {name!r} is a method of the package.")
        METHOD_CONFIGS[name] = config
        self._builds[name] = build

    def unregister(self, name: str) -> None:
        """Remove a method of one's own.

        Raises:
            ConfigError: it is the package's, or unknown.
        """
        if name in self._own or name not in self._builds:
            raise ConfigError(f"methods.unregister: {name!r} is no method of your own.")
        del self._builds[name], METHOD_CONFIGS[name]

    def make(self, method: MethodLike) -> Method:
        """Return the parts of a method given in any form.

        Raises:
            ConfigError: there is no such method, or it has no such values.
        """
        if isinstance(method, Method):
            return method
        try:
            config = parse_method(method)
        except ValueError as error:
            raise ConfigError(f"method: {error}") from error
        return self._builds[config.name](config)

    def supernet(self, method: MethodLike, **sizes: Any) -> Supernet:
        """Return a supernet with all that a method needs: connections and further alphas.

        Args:
            method: as of `make`.
            sizes: of `ConvSupernet`; or of `RecurrentSupernet`, if `vocab_size` is among them.

        Raises:
            ConfigError: the method is unknown, or does not fit the network.
        """
        parts = self.make(method)
        recurrent = "vocab_size" in sizes
        if parts.connection is not None:
            if recurrent:
                raise ConfigError(f"method: {parts.name!r} is for conv supernets.")
            sizes = {**sizes, "connection": parts.connection()}
        network: Any = RecurrentSupernet(**sizes) if recurrent else ConvSupernet(**sizes)
        prepare_alphas(network, parts)
        return network  # type: ignore[no-any-return]


def prepare_alphas(supernet: Any, method: Method) -> None:
    """Give a supernet the initial values of a method, and the alphas that it adds."""
    space = resolve_space(supernet.space)
    initial = method.relaxation.initial(supernet.alphas, space)
    own = supernet.alphas
    supernet.add_alphas({name: values for name, values in initial.items() if name not in own})
    for name, values in initial.items():
        if name in own:
            own[name].data.copy_(values)
