# Who reaches the tasks, and whom they reach. Names are resolved by the VPC's own
# resolver, which security groups do not filter.

locals {
  # That of the URL, or else of its scheme.
  finn_port = tonumber(try(
    regex(":([0-9]+)$", var.finn_url)[0],
    startswith(var.finn_url, "https:") ? "443" : "80",
  ))
}

resource "aws_security_group" "dixie" {
  name_prefix = "${var.name}-"
  description = "Tasks of ${var.name}"
  vpc_id      = var.vpc_id

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "requests" {
  security_group_id            = aws_security_group.dixie.id
  description                  = "Requests, from the load balancer"
  referenced_security_group_id = var.load_balancer_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
}

resource "aws_vpc_security_group_ingress_rule" "metrics" {
  count = var.metrics_security_group_id == null ? 0 : 1

  security_group_id            = aws_security_group.dixie.id
  description                  = "Metrics, for Prometheus"
  referenced_security_group_id = var.metrics_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = local.metrics_port
  to_port                      = local.metrics_port
}

resource "aws_vpc_security_group_egress_rule" "postgresql" {
  security_group_id = aws_security_group.dixie.id
  description       = "PostgreSQL"
  cidr_ipv4         = "10.0.0.0/8"
  ip_protocol       = "tcp"
  from_port         = 5432
  to_port           = 5432
}

resource "aws_vpc_security_group_egress_rule" "nats" {
  security_group_id = aws_security_group.dixie.id
  description       = "NATS"
  cidr_ipv4         = "10.0.0.0/8"
  ip_protocol       = "tcp"
  from_port         = 4222
  to_port           = 4222
}

resource "aws_vpc_security_group_egress_rule" "finn" {
  security_group_id = aws_security_group.dixie.id
  description       = "finn"
  cidr_ipv4         = "10.0.0.0/8"
  ip_protocol       = "tcp"
  from_port         = local.finn_port
  to_port           = local.finn_port
}

resource "aws_vpc_security_group_egress_rule" "allowlist" {
  security_group_id            = aws_security_group.dixie.id
  description                  = "The file system of the allowlist"
  referenced_security_group_id = var.allowlist_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = 2049
  to_port                      = 2049
}

resource "aws_vpc_security_group_egress_rule" "https" {
  for_each = toset(var.https_egress_cidr_blocks)

  security_group_id = aws_security_group.dixie.id
  description       = "Image, secrets and log, to start tasks"
  cidr_ipv4         = each.value
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_security_group_egress_rule" "layers" {
  for_each = toset(var.https_egress_prefix_list_ids)

  security_group_id = aws_security_group.dixie.id
  description       = "Layers of the image"
  prefix_list_id    = each.value
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}
