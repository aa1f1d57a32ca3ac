# How requests come in.

data "aws_lb_listener" "main" {
  arn = var.listener_arn
}

data "aws_lb" "main" {
  arn = data.aws_lb_listener.main.load_balancer_arn
}

resource "aws_lb_target_group" "dixie" {
  name        = var.name
  vpc_id      = var.vpc_id
  target_type = "ip"
  protocol    = "HTTP"
  port        = local.port

  # The time in which requests that have begun may end before a task is told to
  # stop. Streams of the log go on until then and are continued by their readers.
  deregistration_delay = 60

  # 503 while the task cannot serve: its database is away, or has an old schema. finn
  # being away is no reason, and neither is lag, which all tasks share: replacing one
  # would make its projector begin to catch up anew.
  health_check {
    path                = "/readyz?exclude=lag"
    matcher             = "200"
    interval            = 10
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 3
  }

  lifecycle {
    precondition {
      condition     = data.aws_lb_listener.main.protocol == "HTTPS"
      error_message = "listener_arn must be an HTTPS listener: tokens and keys would cross the network in the clear."
    }
  }
}

resource "aws_lb_listener_rule" "dixie" {
  listener_arn = var.listener_arn
  priority     = var.listener_priority

  action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.dixie.arn
  }

  condition {
    host_header {
      values = var.host_names
    }
  }
}
