"""What every part of a kind fulfils: the first thing to read for who writes one of their own.

Each module holds one class. Subclass it in a `Test...` class, give the fixture that its docstring
names, and the whole contract is tested on your part; `test_*.py` in this folder does so for the
package's own. The contracts of supernets and of a study's lock lie beside their tests:
tests/nn/test_contract.py and tests/study/files/test_lock.py.
"""
