"""What student and grader share: tasks, the gate, the model file and its record, the zip."""
