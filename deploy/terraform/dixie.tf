# The service on ECS: its log, its settings, its tasks.

locals {
  port         = 3001
  metrics_port = 9464

  # A setting that is empty is left out.
  settings = {
    for name, value in {
      PORT                           = tostring(local.port)
      DIXIE_METRICS_ADDR             = ":${local.metrics_port}"
      DATABASE_POOL_SIZE             = tostring(var.database_pool_size)
      DIXIE_MAX_LAG                  = var.max_lag
      DIXIE_ALLOWLIST_PATH           = "/data/allowlist.json"
      DIXIE_CORS_ORIGINS             = join(",", var.cors_origins)
      DIXIE_TRUSTED_PROXIES          = join(",", var.trusted_proxies)
      DIXIE_RATE_LIMIT_RPM           = var.rate_limit_rpm == null ? "" : tostring(var.rate_limit_rpm)
      DIXIE_SIWE_DOMAINS             = join(",", var.siwe_domains)
      DIXIE_SIWE_CHAINS              = join(",", var.siwe_chains)
      DIXIE_JWT_KID                  = var.jwt_kid
      DIXIE_JWT_PREVIOUS_PUBLIC_KEYS = var.jwt_previous_public_keys
      DIXIE_X402_ENABLED             = tostring(var.x402_enabled)
      FINN_URL                       = var.finn_url
      REDIS_URL                      = var.redis_url
      NATS_URL                       = var.nats_url
      DIXIE_NATS_PUBLISH             = tostring(var.nats_publish)
      LOG_LEVEL                      = var.log_level
    } : name => value if value != ""
  }

  # The tasks get references; ECS puts the values in when it starts them.
  secrets = {
    DATABASE_URL          = data.aws_secretsmanager_secret.database_url.arn
    DIXIE_JWT_PRIVATE_KEY = data.aws_secretsmanager_secret.jwt_private_key.arn
    DIXIE_ADMIN_KEY       = data.aws_secretsmanager_secret.admin_key.arn
  }

  log_configuration = {
    logDriver = "awslogs"
    options = {
      awslogs-group         = aws_cloudwatch_log_group.dixie.name
      awslogs-region        = var.region
      awslogs-stream-prefix = var.name
    }
  }

  # What every container of the image may do: not much.
  confinement = {
    user                   = "65532:65532"
    readonlyRootFilesystem = true
    linuxParameters        = { capabilities = { drop = ["ALL"] } }
  }
}

data "aws_ecs_cluster" "main" {
  cluster_name = var.cluster_name
}

resource "aws_cloudwatch_log_group" "dixie" {
  name              = "/ecs/${var.name}"
  retention_in_days = var.log_retention_days
}

resource "aws_ecs_task_definition" "dixie" {
  family                   = var.name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory
  execution_role_arn       = aws_iam_role.execution.arn
  # No task_role_arn: the service itself asks nothing of AWS.

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }

  volume {
    name = "allowlist"

    efs_volume_configuration {
      file_system_id     = var.allowlist_file_system_id
      transit_encryption = "ENABLED"

      authorization_config {
        access_point_id = var.allowlist_access_point_id
        iam             = "DISABLED"
      }
    }
  }

  container_definitions = jsonencode([merge(local.confinement, {
    name         = "dixie"
    image        = var.image
    essential    = true
    command      = ["serve"]
    environment  = [for name, value in local.settings : { name = name, value = value }]
    secrets      = [for name, arn in local.secrets : { name = name, valueFrom = arn }]
    portMappings = [{ containerPort = local.port, hostPort = local.port, protocol = "tcp" }]
    mountPoints  = [{ sourceVolume = "allowlist", containerPath = "/data", readOnly = false }]
    # Whether the process answers. Whether it can serve is the load balancer's
    # question: a new container would not bring a database back.
    healthCheck = {
      command     = ["CMD", "/dixie", "healthcheck", "--live"]
      interval    = 10
      timeout     = 5
      retries     = 3
      startPeriod = 30
    }
    # Longer than DIXIE_SHUTDOWN_GRACE, 25 seconds, with what comes after it.
    stopTimeout      = 40
    ulimits          = [{ name = "nofile", softLimit = 65536, hardLimit = 65536 }]
    logConfiguration = local.log_configuration
  })])
}

# One run of this brings the schema up to date, before the service of a new version
# is deployed: see the output migrate_command.
resource "aws_ecs_task_definition" "migrate" {
  family                   = "${var.name}-migrate"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 256
  memory                   = 512
  execution_role_arn       = aws_iam_role.execution.arn

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }

  container_definitions = jsonencode([merge(local.confinement, {
    name             = "migrate"
    image            = var.image
    essential        = true
    command          = ["migrate", "up"]
    secrets          = [{ name = "DATABASE_URL", valueFrom = local.secrets["DATABASE_URL"] }]
    logConfiguration = local.log_configuration
  })])
}

resource "aws_ecs_service" "dixie" {
  name            = var.name
  cluster         = data.aws_ecs_cluster.main.arn
  task_definition = aws_ecs_task_definition.dixie.arn
  launch_type     = "FARGATE"
  desired_count   = var.min_tasks
  propagate_tags  = "SERVICE"

  # New tasks are healthy before old ones go. It also means that tasks that the load
  # balancer finds unhealthy go on until others have taken their place: while the
  # database is away none can, and those that are there are healthy with it again.
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  health_check_grace_period_seconds  = 60

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = var.subnet_ids
    security_groups  = [aws_security_group.dixie.id]
    assign_public_ip = false
  }

  load_balancer {
    target_group_arn = aws_lb_target_group.dixie.arn
    container_name   = "dixie"
    container_port   = local.port
  }

  lifecycle {
    ignore_changes = [desired_count] # autoscaling's

    precondition {
      condition     = var.min_tasks <= var.max_tasks
      error_message = "max_tasks must not be less than min_tasks."
    }
  }

  depends_on = [aws_lb_listener_rule.dixie, aws_iam_role_policy.execution]
}
