# Where it runs.

variable "region" {
  description = "AWS region."
  type        = string
  default     = "us-east-1"

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "Must be a region such as us-east-1."
  }
}

variable "name" {
  description = "Name of the service and prefix of the names of what belongs to it. Give a second deployment in the same account another one."
  type        = string
  default     = "dixie"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,19}$", var.name))
    error_message = "Must be 2 to 20 lower-case letters, digits and hyphens, beginning with a letter: names of target groups are short."
  }
}

variable "tags" {
  description = "Further tags of everything."
  type        = map(string)
  default     = {}
}

variable "cluster_name" {
  description = "ECS cluster that runs the tasks, on Fargate."
  type        = string

  validation {
    condition     = var.cluster_name != ""
    error_message = "Must name a cluster."
  }
}

variable "vpc_id" {
  description = "VPC of the tasks, the database and finn."
  type        = string

  validation {
    condition     = startswith(var.vpc_id, "vpc-")
    error_message = "Must be the id of a VPC."
  }
}

variable "subnet_ids" {
  description = "Private subnets of the tasks, in two availability zones or more."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) >= 2 && alltrue([for id in var.subnet_ids : startswith(id, "subnet-")])
    error_message = "Must be the ids of at least two subnets."
  }
}

# How it is reached.

variable "listener_arn" {
  description = "HTTPS listener of the Application Load Balancer. The service speaks plain HTTP and expects TLS before it."
  type        = string

  validation {
    condition     = can(regex("^arn:[a-z-]+:elasticloadbalancing:.+:listener/app/", var.listener_arn))
    error_message = "Must be the ARN of a listener of an Application Load Balancer."
  }
}

variable "load_balancer_security_group_id" {
  description = "Security group of the load balancer: the only source of requests."
  type        = string

  validation {
    condition     = startswith(var.load_balancer_security_group_id, "sg-")
    error_message = "Must be the id of a security group."
  }
}

variable "host_names" {
  description = "Host names whose requests the load balancer sends to the service."
  type        = list(string)

  validation {
    condition     = length(var.host_names) >= 1 && length(var.host_names) <= 5
    error_message = "Must be one to five names, which is what a rule of a listener takes."
  }
}

variable "listener_priority" {
  description = "Priority of the rule among those of the listener."
  type        = number
  default     = 200

  validation {
    condition     = var.listener_priority >= 1 && var.listener_priority <= 50000
    error_message = "Must be between 1 and 50000."
  }
}

variable "trusted_proxies" {
  description = "Networks of the load balancer, whose X-Forwarded-For is believed (DIXIE_TRUSTED_PROXIES)."
  type        = list(string)
  default     = ["10.0.0.0/8"]

  validation {
    condition     = alltrue([for cidr in var.trusted_proxies : can(cidrnetmask(cidr)) && cidr != "0.0.0.0/0"])
    error_message = "Must be IPv4 networks such as 10.0.0.0/8, and not everybody's."
  }
}

variable "metrics_security_group_id" {
  description = "Security group of the Prometheus that scrapes the tasks on port 9464. Without it nobody can."
  type        = string
  default     = null

  validation {
    condition     = var.metrics_security_group_id == null ? true : startswith(var.metrics_security_group_id, "sg-")
    error_message = "Must be the id of a security group."
  }
}

# What runs.

variable "image" {
  description = "Image of the service, with a tag that is never moved, or a digest."
  type        = string

  validation {
    condition     = can(regex("^[^@]+(@sha256:[0-9a-f]{64}|:[A-Za-z0-9_][A-Za-z0-9._-]*)$", var.image)) && !endswith(var.image, ":latest")
    error_message = "Must name a version or a digest, and not latest: tasks that start later would be of another version."
  }
}

variable "ecr_repository_arn" {
  description = "ECR repository of the image."
  type        = string

  validation {
    condition     = can(regex("^arn:[a-z-]+:ecr:.+:repository/.+", var.ecr_repository_arn))
    error_message = "Must be the ARN of a repository."
  }
}

variable "cpu" {
  description = "CPU units of a task; 1024 are one processor. They scale how many requests a task can answer."
  type        = number
  default     = 512

  validation {
    condition     = contains([256, 512, 1024, 2048, 4096], var.cpu)
    error_message = "Must be 256, 512, 1024, 2048 or 4096."
  }
}

variable "memory" {
  description = "Memory of a task in MiB. A rebuild needs 1 KiB for each agent, above some 30 MiB."
  type        = number
  default     = 1024

  validation {
    condition     = var.memory >= 512 && var.memory <= 30720 && (var.memory == 512 || floor(var.memory / 1024) * 1024 == var.memory)
    error_message = "Must be 512 or a multiple of 1024, up to 30720, and one that Fargate has for the CPU units."
  }
}

variable "cpu_architecture" {
  description = "Architecture that the image is built for."
  type        = string
  default     = "X86_64"

  validation {
    condition     = contains(["X86_64", "ARM64"], var.cpu_architecture)
    error_message = "Must be X86_64 or ARM64."
  }
}

variable "min_tasks" {
  description = "Tasks that run at least. With one, requests fail while it is replaced after a failure."
  type        = number
  default     = 2

  validation {
    condition     = var.min_tasks >= 1 && floor(var.min_tasks) == var.min_tasks
    error_message = "Must be a whole number from 1."
  }
}

variable "max_tasks" {
  description = "Tasks that run at most. Each takes database_pool_size + 4 connections, and deployments run twice as many for a while: PostgreSQL must allow them."
  type        = number
  default     = 6

  validation {
    condition     = var.max_tasks >= 1 && floor(var.max_tasks) == var.max_tasks
    error_message = "Must be a whole number from 1, and not less than min_tasks."
  }
}

variable "log_retention_days" {
  description = "Days for which CloudWatch keeps the log."
  type        = number
  default     = 30

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "Must be a number of days that CloudWatch knows, such as 30, 90 or 365."
  }
}
