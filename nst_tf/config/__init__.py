"""What a run is asked to do: the schema of every setting, and the YAML files that give them."""

from nst_tf.config.schema import Config, load_config

__all__ = ["Config", "load_config"]
