"""What meshwright costs and how right it is, as figures that anyone can measure again. Not part of the package."""
