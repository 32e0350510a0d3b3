from deconvviz.cli import main

main()
