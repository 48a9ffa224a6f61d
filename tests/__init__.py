"""A package of its own: a dependency that installs its tests under the same name does not hide these."""
