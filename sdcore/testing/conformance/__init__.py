"""Conformance: 21 checks of what every plugin promises, the same code for the class, the fixture and `sdcore check`.

``catalogue`` has the list; ``base`` the class that an author subclasses; ``running`` carries a check out. The checks
themselves are in ``packaging``, ``effect``, ``isolation``, ``faults``, ``numbers``, ``options`` and ``composition``.
"""
