"""The deconvnet itself. It depends on torch only, and contains no files, figures or command line.

Read it in this order:

    index_maps.py        which input positions each output position depends on
    layout.py            the layout of a value, and the window that contains a signal
    rules/               one class for each ATen operation: what it records, and how it projects a signal
    rules/gradient.py    the same for gradients and guided backpropagation
    spellings.py         activation functions that a network computes in several calls
    network_inputs.py    what a network is called with: one tensor, several, or a list of pictures
    output_parts.py      the tensors in the return value of a module
    tape.py              a forward pass as the list of its calls
    gradient_tape.py     the tapes of the gradient and of guided backpropagation
    preservation.py      restore everything that a forward pass changes in a network
    wrappers.py          replace wrappers such as torch.compile by their inner module
    multihead.py         nn.MultiheadAttention as separate calls
    unrolled.py          recurrent layers as single steps
    fused_modules.py     use both while a network is recorded
    hooks.py             run a network up to a layer: training flags, hooks and locks
    repeats.py           steps of one recording that the next one can use again
    memory.py            where a view lies in the tensor whose memory it shares
    recorder.py          run a network and record its calls on a tape
    influence.py         which values depend on weights that are missing
    pixel_fields.py      which pixels of the image each position of a value depends on
    joined_steps.py      a convolution and the batch norm after it as one step
    receptive_fields.py  how large receptive fields are, and which positions a unit depends on
    unit_windows.py      the window of every value for a batch of units
    units.py             units, whole channels and other tensors as signals
    region.py            positions of a channel that are projected together
    entries.py           single entries of tensors of any shape, such as the scores of detections
    choice.py            choose the strongest units of a layer
    workload.py          how many units to project together
    projection_pass.py   replay the tape in reverse, from a layer to the pixels
    rule_check.py        compare a rule with the vector-Jacobian product of its operation
"""
