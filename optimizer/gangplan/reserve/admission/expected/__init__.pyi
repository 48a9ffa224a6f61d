from .starts import (
    EtaErrors as EtaErrors,
    estimate as estimate,
    eta_errors as eta_errors,
    learned_ratio as learned_ratio,
    waited as waited,
)
