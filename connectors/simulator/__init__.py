"""A simulated city that knows the truth: matters first, then who reports them, how, and how badly.

``scenarios.yaml`` has every number with its reason, ``words.yaml`` what people say. Pure and seeded; what is
sent, and through which transport, is :mod:`connectors.simulate`'s affair.
"""

from connectors.simulator.report import Report
from connectors.simulator.scenarios import CHANNELS, PEOPLE, SENSING, Scenario, load_numbers
from connectors.simulator.simulation import Simulation

__all__ = ["CHANNELS", "PEOPLE", "SENSING", "Report", "Scenario", "Simulation", "load_numbers"]
